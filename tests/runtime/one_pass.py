"""A child process: one pass over a text through the compiled plan, its loss and this process's peak memory as JSON.

    python -m tests.runtime.one_pass MODEL TEXT NUM_BYTES KV_TYPE

The model's kernels and packed weights are made if they are missing, in processes of their own or released after.
"""

from __future__ import annotations

import json
import sys
from contextlib import closing
from pathlib import Path

import numpy as np

from isochrone.runtime.load import load_runtime
from isochrone.text import load_tokenizer

from .driving import PAGE, scored


def peak_bytes() -> int:
    """The most memory this program has held.  Not ru_maxrss: that remembers the process which started this one."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return int(status["VmHWM"].split()[0]) * 1024


def main(model: str, text: str, num_bytes: str, kv_type: str) -> None:
    data = Path(text).read_bytes()[: int(num_bytes)]
    ids = np.array(load_tokenizer(Path(model)).encode(data.decode(errors="strict"), False), np.int32)
    with closing(load_runtime(model, kv_type=kv_type, context=-(-len(ids) // PAGE) * PAGE)) as runtime:  # type: ignore[arg-type]
        logprobs = scored(runtime, ids, range(-(-len(ids) // PAGE)), 512)
    print(json.dumps({"num_tokens": len(ids), "nats": -float(logprobs[:-1].sum()), "peak_bytes": peak_bytes()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
