"""Server-sent events for streamed answers, written by hand: what is the same in every chunk is made once a request."""

from __future__ import annotations

import secrets
from typing import Any

import msgspec

from isochrone.places.place import Delta

from .trace import current_timing

PAD_BYTES = 64


class ChunkFrame:
    """The parts of a chunk around its choice.

    head        fields that every chunk repeats
    with_usage  the caller wants a last chunk with the usage; the others then say `null`
    padded      fill every chunk up to a multiple of 64 bytes
    """

    def __init__(self, head: dict[str, Any], *, with_usage: bool, padded: bool) -> None:
        self._open = b"data: " + msgspec.json.encode(head)[:-1]
        self._usage = b',"usage":null' if with_usage else b""
        self._padded = padded

    def choice(
        self, index: int, content: bytes, logprobs: bytes, finish_reason: str | None, own: dict[str, Any] | None = None
    ) -> bytes:
        """One chunk with one choice.  content  the member with the text, as JSON;  own: what `own_fields` gives"""
        reason = b'"%s"' % finish_reason.encode() if finish_reason else b"null"
        return self._close(
            b'%s,"choices":[{"index":%d,%s,"logprobs":%s,"finish_reason":%s}]%s%s'
            % (self._open, index, content, logprobs, reason, self._usage, _member("isochrone", own))
        )

    def usage(self, num_prompt: int, num_cached: int, num_answer: int, num_reasoning: int = 0) -> bytes:
        """The last chunk, without a choice."""
        counts = msgspec.json.encode(usage(num_prompt, num_cached, num_answer, num_reasoning))
        return self._close(b'%s,"choices":[],"usage":%s' % (self._open, counts))

    def _close(self, chunk: bytes) -> bytes:
        if not self._padded:
            return chunk + b"}\n\n"
        bare = len(chunk) + len(b',"obfuscation":""}\n\n')
        filling = secrets.token_hex(PAD_BYTES)[: -bare % PAD_BYTES].encode()
        return b'%s,"obfuscation":"%s"}\n\n' % (chunk, filling)


def usage(num_prompt: int, num_cached: int, num_answer: int, num_reasoning: int = 0) -> dict[str, Any]:
    """Token counts as OpenAI gives them, and where the time went."""
    timing = current_timing()
    return {
        "prompt_tokens": num_prompt,
        "completion_tokens": num_answer,
        "total_tokens": num_prompt + num_answer,
        "prompt_tokens_details": {"cached_tokens": num_cached},
        "completion_tokens_details": {"reasoning_tokens": num_reasoning},
    } | ({"timing": timing} if timing else {})


def own_fields(delta: Delta) -> dict[str, Any]:
    """What OpenAI's shape has no place for, of an answer's last delta: the member `isochrone`."""
    own: dict[str, Any] = {}
    if delta.ended_by is not None:
        own["ended_by"] = delta.ended_by
    if delta.receipt is not None:
        own["receipts"] = [msgspec.to_builtins(delta.receipt)]
    if delta.route is not None:
        from .answer_facts import route_fields  # a single model has no route

        own["route"] = route_fields(delta.route)
    return own


def joined(own: list[dict[str, Any]]) -> dict[str, Any]:
    """The same for several answers in one body."""
    out: dict[str, Any] = {}
    for one in own:
        receipts = out.get("receipts", []) + one.get("receipts", [])
        out |= one | ({"receipts": receipts} if receipts else {})
    return out


def _member(name: str, value: dict[str, Any] | None) -> bytes:
    return b',"%s":%s' % (name.encode(), msgspec.json.encode(value)) if value else b""
