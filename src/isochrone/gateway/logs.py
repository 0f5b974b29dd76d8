"""Log lines: an event with facts, as one line of JSON on stderr.  Never a prompt, never a key, nothing per token."""

from __future__ import annotations

import logging
import sys
import time
import traceback
from typing import Any, TextIO

import msgspec


class Log:
    """`Log("gateway").warning("place.down", place=name)`: stdlib logging underneath, facts as keywords."""

    def __init__(self, room: str) -> None:
        self._logger = logging.getLogger(f"isochrone.{room}")

    def debug(self, event: str, **facts: Any) -> None:
        self._log(logging.DEBUG, event, facts)

    def info(self, event: str, **facts: Any) -> None:
        self._log(logging.INFO, event, facts)

    def warning(self, event: str, **facts: Any) -> None:
        self._log(logging.WARNING, event, facts)

    def error(self, event: str, **facts: Any) -> None:
        self._log(logging.ERROR, event, facts)

    def _log(self, level: int, event: str, facts: dict[str, Any]) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, event, extra={"facts": facts})


class JsonFormatter(logging.Formatter):
    """One JSON object a line.  Of an exception only its type and where it rose: its text may quote a prompt."""

    def format(self, record: logging.LogRecord) -> str:
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        line.update(getattr(record, "facts", {}))
        if record.exc_info and record.exc_info[1] is not None:
            line |= describe(record.exc_info[1])
        return msgspec.json.encode(line, enc_hook=str).decode()


def describe(error: BaseException) -> dict[str, Any]:
    """An exception as facts that cannot quote what a caller sent."""
    frames = traceback.extract_tb(error.__traceback__)
    return {"error": type(error).__name__, "at": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]}


def set_up(level: str = "info", stream: TextIO | None = None) -> None:
    """Send the log of this process to `stream` (stderr), and uvicorn's through the same road when it warns."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter())
    for name, lowest in (("isochrone", level.upper()), ("uvicorn", "ERROR"), ("asyncio", "WARNING")):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(lowest)
