"""The byte scanner of relayed streams against a full reader of every frame, whatever the bytes are cut into."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.errors import Unreachable
from isochrone.gateway.relay_frames import FRAME_BYTES_MAX, Frames

WORDS = st.sampled_from(
    ["", " word", "usage", "error", "[DONE]", "data: x", '"usage":{"prompt_tokens":9}', '\n\ndata: {"error":1}',
     "finish_reason", '{"finish_reason":"stop"}', "Grüße \u2028", "\\"]
)  # fmt: skip


def chunk(delta: dict[str, Any], reason: str | None = None, **more: Any) -> dict[str, Any]:
    return {"id": "x", "choices": [{"index": 0, "delta": delta, "finish_reason": reason}], **more}


FRAMES = st.one_of(
    st.just({"role": "assistant", "content": ""}).map(chunk),
    WORDS.map(lambda word: chunk({"content": word})),
    WORDS.map(lambda word: chunk({"reasoning_content": word}, usage=None)),
    WORDS.map(lambda word: chunk({"tool_calls": [{"index": 0, "function": {"arguments": word}}]})),
    st.sampled_from(["stop", "length"]).map(lambda reason: chunk({}, reason)),
    st.integers(0, 99).map(lambda n: chunk({}, usage={"prompt_tokens": n, "completion_tokens": 2})),
    st.integers(0, 99).map(lambda n: {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": n}}),
    st.just({"error": {"message": "broken", "code": 500}}),
    st.just("comment"),
    st.just("done"),
)


def wire(frame: Any, end: str, *, spaced: bool) -> bytes:
    """One frame as a server might write it."""
    if frame == "comment":
        return f": still here{end}{end}".encode()
    if frame == "done":
        return f"data: [DONE]{end}{end}".encode()
    text = json.dumps(frame, ensure_ascii=False, separators=(", ", ": ") if spaced else (",", ":"))
    return f"data: {text}{end}{end}".encode()


def read_fully(frames: list[Any]) -> dict[str, Any]:
    """What a reader that parses every frame makes of them."""
    seen: dict[str, Any] = {"commit": None, "usage": None, "reason": None, "error": None, "done": False, "kept": []}
    for at, frame in enumerate(frames):
        if frame == "done":
            seen["done"] = True
            continue
        choices = frame.get("choices", []) if isinstance(frame, dict) else []
        says = any(choice["finish_reason"] or any(v for k, v in choice["delta"].items() if k != "role")
                   for choice in choices)  # fmt: skip
        if says and seen["commit"] is None:
            seen["commit"] = at
        if isinstance(frame, dict):
            seen["usage"] = frame.get("usage") or seen["usage"]
            seen["error"] = seen["error"] or frame.get("error")
            seen["reason"] = next((c["finish_reason"] for c in choices if c["finish_reason"]), seen["reason"])
            if "error" in frame or (not choices and frame.get("usage")):
                continue
        seen["kept"].append(at)
    return seen


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    at = sorted({c % (len(data) + 1) for c in cuts} | {0, len(data)})
    return [data[a:b] for a, b in pairwise(at)]


@given(
    st.lists(FRAMES, max_size=12), st.sampled_from(["\n", "\r\n", "\r"]), st.booleans(),
    st.lists(st.integers(0, 5000), max_size=30),
)  # fmt: skip
def test_whatever_the_bytes_are_cut_into_the_same_is_seen_and_passed_on(
    frames: list[Any], end: str, spaced: bool, cuts: list[int]
) -> None:
    wires = [wire(frame, end, spaced=spaced) for frame in frames]
    expected = read_fully(frames)
    scanner, passed, num_frames = Frames(), b"", 0
    committed_after = None
    fed = 0
    for part in cut(b"".join(wires), cuts):
        piece = scanner.feed(part)
        fed += len(part)
        if piece is not None:
            passed, num_frames = passed + piece.data, num_frames + piece.num_frames
        if scanner.is_committed and committed_after is None:
            committed_after = fed
    if last := scanner.close():
        passed, num_frames = passed + last.data, num_frames + last.num_frames
    is_committed = expected["commit"] is not None
    assert scanner.is_committed == is_committed
    kept = b"".join(wires[at] for at in expected["kept"]).replace(end.encode(), b"\n")
    assert passed == (kept if is_committed else b"")
    assert num_frames == (len(expected["kept"]) if is_committed else 0)
    if is_committed and committed_after is not None:  # not one byte before the frame that says something was there
        assert committed_after >= len(b"".join(wires[: expected["commit"]])) + 2
    usage = None if scanner.usage is None else (scanner.usage.num_prompt, scanner.usage.num_answer)
    told = expected["usage"]
    assert usage == (None if told is None else (told["prompt_tokens"], told["completion_tokens"]))
    assert (scanner.finish_reason, scanner.error, scanner.is_done) == (
        expected["reason"], expected["error"], expected["done"],
    )  # fmt: skip


@given(st.lists(FRAMES, min_size=1, max_size=8), st.lists(st.integers(0, 5000), max_size=30))
def test_only_whole_frames_are_passed_on_so_that_another_place_can_go_on_after_them(
    frames: list[Any], cuts: list[int]
) -> None:
    scanner = Frames()
    for part in cut(b"".join(wire(frame, "\n", spaced=False) for frame in frames), cuts):
        piece = scanner.feed(part)
        assert piece is None or piece.data.endswith(b"\n\n")


def test_what_came_in_one_read_leaves_in_one_piece() -> None:
    scanner = Frames()
    wires = [wire(chunk({"content": word}), "\n", spaced=False) for word in ("a", "b", "c")]
    piece = scanner.feed(b"".join(wires))
    assert piece is not None and piece.data == b"".join(wires) and piece.num_frames == 3


def test_an_event_without_an_end_is_not_gathered_for_ever() -> None:
    scanner = Frames()
    with pytest.raises(Unreachable, match="without the end of an event"):
        for _ in range(FRAME_BYTES_MAX // 100_000 + 2):
            scanner.feed(b"x" * 100_000)


@pytest.mark.parametrize("data", [b"data: nonsense", b"data: [1]", b'data: {"choices": 3}', b"data: \xff"])
def test_an_event_that_is_no_chunk_is_a_fault_of_the_place(data: bytes) -> None:
    with pytest.raises(Unreachable):
        Frames().feed(data + b"\n\n")


def test_a_place_that_only_keeps_its_connection_alive_fills_no_memory() -> None:
    frames, comment = Frames(), b": still here\n\n" * 5000
    with pytest.raises(Unreachable, match="without a word"):
        for _ in range(2 * FRAME_BYTES_MAX // len(comment)):
            assert frames.feed(comment) is None
