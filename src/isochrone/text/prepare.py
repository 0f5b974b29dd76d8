"""The table of a tokenizer made in a process that exits, for a caller that must not import what reads checkpoints."""

from __future__ import annotations

import json
import os
import sys

from isochrone.errors import BadModel, IsochroneError, NotFound

from .load import PathLike, is_cached, load_tokenizer

TIMEOUT_S = 60.0  # the largest vocabularies in use, 262,000 tokens, take 3 s
_RAISED = {error.__name__: error for error in (BadModel, NotFound)}


def prepare_tokenizer(path: PathLike, cache_dir: PathLike) -> None:
    """See to it that `load_tokenizer(path, cache_dir)` only maps a table; blocks for 0.3 to 3 s when there is none.

    The gateway calls it: reading a GGUF header imports NumPy, whose memory a long-lived process should not carry.
    Raises what load_tokenizer raises.
    """
    if is_cached(path, cache_dir):
        return
    import subprocess

    command = [sys.executable, "-m", "isochrone.text.prepare", os.fspath(path), os.fspath(cache_dir)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise BadModel(
            f"Reading the tokenizer of {path} took more than {TIMEOUT_S:.0f} s.", fix="Use another copy of the model."
        ) from error
    if done.returncode != 0:
        raise _error(done.stdout, done.stderr, path)


def _error(out: str, err: str, path: PathLike) -> IsochroneError:
    try:
        said = json.loads(out)
        return _RAISED[said["type"]](said["message"], fix=said["fix"])
    except (ValueError, KeyError, TypeError):
        last = err.strip().rpartition("\n")[2] or "it said nothing"
        return BadModel(
            f"The process that reads the tokenizer of {path} died: {last}.", fix="Use another copy of the model."
        )


def main(path: str, cache_dir: str) -> int:
    """What the child process does: make the table, or print the error as JSON."""
    try:
        load_tokenizer(path, cache_dir)
    except (BadModel, NotFound) as error:
        print(json.dumps({"type": type(error).__name__, "message": error.message, "fix": error.fix}))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
