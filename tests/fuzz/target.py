"""What the fuzz targets share: the command line, the seeds, and what counts as a failure."""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

MEMORY_BYTES = 512 << 20
INPUT_BYTES_MAX = 1 << 16
INPUT_S_MAX = 5
CORPUS = Path(__file__).parent / "corpus"


def fuzz(name: str, seeds: Callable[[], list[bytes]], read: Callable[[Path], None]) -> None:
    """Feed files made from the seeds to `read` until the time is up.

    name  of the target; failing inputs are kept under tests/fuzz/corpus/<name> and replayed first the next time
    read  returns, or raises BadModel; anything else, more than 5 s, or more than 512 MB is a failure
    """
    try:
        import atheris
    except ImportError:
        sys.exit("Fuzzing needs atheris, which is in the extra [dev] for Python 3.11 to 3.13.")

    parser = argparse.ArgumentParser(description=f"Fuzz the {name} reader.")
    parser.add_argument("--seconds", type=int, default=30)
    seconds = parser.parse_args().seconds
    # The branches that guide the search are those of modules first imported in this block.
    with atheris.instrument_imports(include=["isochrone.weights"]):
        import isochrone.weights.checkpoint  # noqa: F401
    from isochrone.errors import BadModel

    folder = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-"))
    (folder / "corpus").mkdir()
    for number, seed in enumerate(seeds()):
        (folder / "corpus" / f"seed-{number}").write_bytes(seed)
    kept = CORPUS / name
    file = folder / f"input.{name}"

    def one(content: bytes) -> None:
        file.unlink(missing_ok=True)  # never written in place: an earlier map may still be alive
        file.write_bytes(content)
        try:
            read(file)
        except BadModel as error:
            assert error.message and error.fix

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    limits = [
        f"-max_total_time={seconds}",
        f"-max_len={INPUT_BYTES_MAX}",
        f"-timeout={INPUT_S_MAX}",
        "-print_final_stats=1",
    ]
    limits += [f"-rss_limit_mb={MEMORY_BYTES >> 20}", f"-artifact_prefix={folder}/failed-", "-verbosity=0"]
    corpora = [str(folder / "corpus"), *([str(kept)] if kept.is_dir() else [])]
    child = os.fork()  # the fuzzer ends its process itself; whoever waits for it can clean up and report
    if child == 0:
        atheris.Setup([sys.argv[0], *limits, *corpora], one)
        atheris.Fuzz()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    failed = sorted(folder.glob("failed-*"))
    for artifact in failed:
        kept.mkdir(parents=True, exist_ok=True)
        shutil.copy(artifact, kept / artifact.name)
        print(f"{name}: kept {kept / artifact.name}")
    shutil.rmtree(folder)
    code = os.waitstatus_to_exitcode(status)
    print(f"{name}: {'no failure' if code == 0 else f'failed with status {code}'} in {seconds} s")
    sys.exit(0 if code == 0 else 1)
