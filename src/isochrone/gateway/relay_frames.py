"""Bytes of a streamed chat on their way through: passed on frame by frame as they came, read no further than needed.

    socket reads     |data: {"choi|ces":[..role..]}..data: {..first word..}..da|ta: ...
    pieces                                                                  ^ the first one has the first word
                     |<---------- held: not yet an answer ----------------->|<- passed on at once ...

Until the first frame that says something (the commit point) each frame is read as JSON.  From there on only frames that
may hold a usage, an error, an end or a mark are read: JSON cannot hold these names, quoted, anywhere but as a name or
as a whole text of its own, so looking for their bytes misses none.  A server that spells names with escapes
(`"us\\u0061ge"`) would be missed; none does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import Struct

from isochrone.errors import Unreachable
from isochrone.places.place import Delta, Prompted, Usage

FRAME_BYTES_MAX = 4 * 1024 * 1024
"""A frame larger than this is no chunk of an answer, and is not gathered."""
DONE = b"[DONE]"


class Counts(Struct):
    """OpenAI's usage, as far as servers agree on it."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: dict[str, Any] | None = None
    completion_tokens_details: dict[str, Any] | None = None

    def usage(self) -> Usage:
        prompt, answer = self.prompt_tokens_details or {}, self.completion_tokens_details or {}
        return Usage(
            self.prompt_tokens or 0, self.completion_tokens or 0,
            num_cached=_count(prompt.get("cached_tokens")), num_reasoning=_count(answer.get("reasoning_tokens")),
        )  # fmt: skip


def _count(value: Any) -> int:
    return value if isinstance(value, int) else 0


class _Choice(Struct):
    delta: dict[str, Any] | None = None
    text: Any = None
    finish_reason: str | None = None


class _Frame(Struct):
    choices: list[_Choice] | None = None
    usage: Counts | None = None
    error: Any = None


SPOKEN = ("content", "reasoning_content", "reasoning", "refusal", "tool_calls", "function_call")
"""Members of a delta that are part of an answer; a role is not."""
_DECODER = msgspec.json.Decoder(_Frame)


@dataclass(frozen=True, slots=True)
class Ending:
    """What is known once an answer is whole.

    usage        as the place counted it;  None: it did not
    usage_frame  the stream's frame with nothing but the usage.  It is not passed on with the others: whether the caller
                 asked for one, and what is to be said beside it, the gateway knows
    """

    usage: Usage | None = None
    usage_frame: bytes = b""
    finish_reason: str | None = None


@dataclass(slots=True)
class Piece:
    """Whole frames, ready to be sent on.

    num_frames  of them, about one a token; 0 for a body in one piece, whose first word nobody saw
    commits     the answer has begun: nobody else can give it now
    ending      set on the last piece
    event       what these frames say, where it was said in our own words
    """

    data: bytes
    num_frames: int
    commits: bool
    ending: Ending | None = None
    event: Prompted | Delta | None = None


@dataclass(slots=True)
class Frame:
    """One frame, read.  data  without the empty line that ends it"""

    data: bytes
    is_semantic: bool = False
    is_done: bool = False
    finish_reason: str | None = None
    usage: Usage | None = None
    error: Any = None
    is_bare_usage: bool = False


class Frames:
    """Bytes in, pieces out.  Whatever the bytes are cut into, the same bytes come out, and the same is seen in them.

    usage, finish_reason, error, is_done   seen so far
    usage_frame  see `Ending`; neither it nor the last mark nor an error is passed on
    """

    def __init__(self) -> None:
        self._tail = b""
        self._held: list[bytes] = []
        self._num_held_bytes = 0
        self.is_committed = self.is_done = False
        self.usage: Usage | None = None
        self.finish_reason: str | None = None
        self.error: Any = None
        self.usage_frame = b""

    @property
    def is_whole(self) -> bool:
        """The answer's end was seen."""
        return self.is_done or self.finish_reason is not None

    @property
    def ending(self) -> Ending:
        return Ending(self.usage, self.usage_frame, self.finish_reason)

    def feed(self, data: bytes) -> Piece | None:
        """What can be passed on now; None while nothing can.  Raises Unreachable for what is no stream of events."""
        whole = self._whole(self._tail + data if self._tail else data)
        if not whole:
            return None
        if self.is_committed and not _may_matter(whole):
            return Piece(whole, whole.count(b"\n\n"), True)
        return self._read(whole)

    def close(self) -> Piece | None:
        """The stream is over: a last frame without its empty line, too."""
        tail, self._tail = self._tail, b""
        return self._read(tail.replace(b"\r", b"\n").rstrip(b"\n") + b"\n\n") if tail.strip() else None

    def _whole(self, data: bytes) -> bytes:
        """The frames that have come to their end; the rest is kept.  Line ends are made one kind."""
        if b"\r" in data:
            held = b"\r" if data.endswith(b"\r") else b""  # half a line end, perhaps
            data = data[: len(data) - len(held)].replace(b"\r\n", b"\n").replace(b"\r", b"\n") + held
        end = data.rfind(b"\n\n") + 2
        self._tail = data if end == 1 else data[end:]
        if len(self._tail) > FRAME_BYTES_MAX:
            raise Unreachable(
                f"The place sent {len(self._tail):,} bytes without the end of an event.",
                fix="Check that its address is that of an OpenAI-compatible server.",
            )
        return data[:end] if end > 1 else b""

    def _read(self, whole: bytes) -> Piece | None:
        """Frame by frame, until the answer has begun or because something else than words may be in them."""
        keep: list[bytes] = []
        for raw in whole.split(b"\n\n"):
            if not raw or not raw.strip(b"\n"):
                continue
            if self.is_committed and not _may_matter(raw):
                keep.append(raw)
                continue
            frame = read_frame(raw)
            self._see(frame)
            if frame.is_bare_usage and frame.usage is not None:
                self.usage_frame = raw
            elif not frame.is_done and frame.error is None:
                keep.append(raw)
        if not self.is_committed:
            self._hold(keep)
            return None
        keep, self._held = self._held + keep, []
        return Piece(b"\n\n".join(keep) + b"\n\n", len(keep), True) if keep else None

    def _hold(self, frames: list[bytes]) -> None:
        self._held += frames
        self._num_held_bytes += sum(map(len, frames))
        if self._num_held_bytes > FRAME_BYTES_MAX:
            raise Unreachable(
                f"The place sent {self._num_held_bytes:,} bytes of events without a word.",
                fix="Ask again; if it stays, look at its log.",
            )

    def _see(self, frame: Frame) -> None:
        self.is_committed |= frame.is_semantic
        self.is_done |= frame.is_done
        self.usage = frame.usage or self.usage
        self.finish_reason = frame.finish_reason or self.finish_reason
        self.error = frame.error if self.error is None else self.error


def _may_matter(whole: bytes) -> bool:
    """Whether frames may hold more than words: a usage, an end, an error or the last mark."""
    if b"[DONE]" in whole or b'"error"' in whole:
        return True
    return _has_more(whole, b'"usage"') or _has_more(whole, b'"finish_reason"')


def _has_more(whole: bytes, name: bytes) -> bool:
    """Whether this name is there with another value than null."""
    num = whole.count(name)
    return bool(num) and num != whole.count(name + b":null") + whole.count(name + b": null")


def read_frame(raw: bytes) -> Frame:
    """One frame, in full.  Raises Unreachable when its data is no JSON object."""
    data = payload_of(raw)
    if not data:
        return Frame(raw)  # a comment, an event's name: it keeps the connection alive
    if data == DONE:
        return Frame(raw, is_done=True)
    try:
        chunk = _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unreachable(
            "The place sent an event that is no chunk of an answer.", fix="Ask again; if it stays, look at its log."
        ) from error
    choices = chunk.choices or []
    reason = next((choice.finish_reason for choice in choices if choice.finish_reason), None)
    return Frame(
        raw,
        is_semantic=reason is not None or any(_says(choice) for choice in choices),
        finish_reason=reason,
        usage=None if chunk.usage is None else chunk.usage.usage(),
        error=chunk.error,
        is_bare_usage=chunk.usage is not None and not choices,
    )


def payload_of(raw: bytes) -> bytes:
    """A frame's data, without the field's name."""
    lines = [line[5:].removeprefix(b" ") for line in raw.split(b"\n") if line.startswith(b"data:")]
    return b"\n".join(lines).strip()


def _says(choice: _Choice) -> bool:
    return bool(choice.text) or any((choice.delta or {}).get(name) for name in SPOKEN)
