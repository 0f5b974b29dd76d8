"""What the fuzz targets share: the seeds, the search, and what counts as a failure."""

from __future__ import annotations

import importlib
import os
import resource
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

INPUT_BYTES_MAX = 1 << 16
INPUT_S_MAX = 5
CORPUS = Path(__file__).parent / "corpus"


@dataclass(frozen=True, slots=True)
class Target:
    """Something that reads what strangers send.

    read      takes one input and returns, whatever it thinks of it: refusals are checked in there.  Anything raised,
              more than 5 s, or more memory than given is a failure
    seeds     true inputs to start from, one of them with nothing in it
    modules   whose branches guide the search; imported here for the first time
    """

    name: str
    read: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]
    modules: tuple[str, ...]
    memory_bytes: int = 512 << 20


def run(target: Target, seconds: int) -> int:
    """Feed inputs made from the seeds to the target until the time is up.  Returns the process's exit code.

    Failing inputs are kept under tests/fuzz/corpus/<name>, and replayed first the next time.
    """
    try:
        import atheris
    except ImportError:
        sys.exit("Fuzzing needs atheris, which is in the extra [dev] for Python 3.11 to 3.13.")

    with atheris.instrument_imports(include=[module.rpartition(".")[0] for module in target.modules]):
        for module in target.modules:
            importlib.import_module(module)
    folder = Path(tempfile.mkdtemp(prefix=f"fuzz-{target.name}-"))
    (folder / "corpus").mkdir()
    for number, seed in enumerate(target.seeds()):
        (folder / "corpus" / f"seed-{number}").write_bytes(seed)
    kept = CORPUS / target.name
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    limits = [
        f"-max_total_time={seconds}",
        f"-max_len={INPUT_BYTES_MAX}",
        f"-timeout={INPUT_S_MAX}",
        "-print_final_stats=1",
    ]
    limits += [f"-rss_limit_mb={target.memory_bytes >> 20}", f"-artifact_prefix={folder}/failed-", "-verbosity=0"]
    corpora = [str(folder / "corpus"), *([str(kept)] if kept.is_dir() else [])]
    child = os.fork()  # the fuzzer ends its process itself; whoever waits for it can clean up and report
    if child == 0:
        atheris.Setup([sys.argv[0], *limits, *corpora], target.read)
        atheris.Fuzz()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    for artifact in sorted(folder.glob("failed-*")):
        kept.mkdir(parents=True, exist_ok=True)
        shutil.copy(artifact, kept / artifact.name)
        print(f"{target.name}: kept {kept / artifact.name}")
    shutil.rmtree(folder)
    code = os.waitstatus_to_exitcode(status)
    print(f"{target.name}: {'no failure' if code == 0 else f'failed with status {code}'} in {seconds} s", flush=True)
    return 0 if code == 0 else 1


def from_file(ending: str, read: Callable[[Path], None]) -> Callable[[bytes], None]:
    """`read` for something that reads files and refuses them with BadModel."""
    folder = tempfile.TemporaryDirectory(prefix="fuzz-input-")

    def one(content: bytes) -> None:
        from isochrone.errors import BadModel

        path = Path(folder.name) / f"input.{ending}"
        path.unlink(missing_ok=True)  # never written in place: an earlier map may still be alive
        path.write_bytes(content)
        try:
            read(path)
        except BadModel as error:
            assert error.message and error.fix

    return one
