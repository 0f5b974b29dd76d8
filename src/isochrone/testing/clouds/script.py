"""What a test cloud answers, and how it misbehaves: plain data, the same in process, in a file and over the wire."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec

from isochrone.errors import BadConfig

FaultKind: TypeAlias = Literal[
    "throttled", "unavailable", "overloaded", "internal", "timeout", "unauthenticated", "denied", "not_found",
    "invalid", "too_long", "not_ready",
]  # fmt: skip
"""Kinds of refusal; each cloud says them in its own words.  `too_long`: the prompt does not fit the context."""


class Call(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One call of a tool.  id  empty: the cloud makes one up"""

    name: str
    arguments: dict[str, Any] = {}
    id: str = ""


class Count(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Tokens as the cloud counts and bills them.  num_answer  thoughts are not part of it"""

    num_prompt: int
    num_answer: int
    num_cached: int = 0
    num_cache_written: int = 0
    num_thought: int = 0


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="fault"):
    """A refusal.

    message        None: the cloud's usual words
    retry_after_s  said the way the cloud says it; None: not said
    """

    kind: FaultKind
    message: str | None = None
    retry_after_s: float | None = None


class Block(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="block"):
    """A filter refuses the prompt.  reason  in the cloud's word; empty: its most usual one"""

    reason: str = ""


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="answer"):
    """What the model says: thoughts, then words, then calls.  An event of a stream is one token of words or thoughts
    (a word with the space after it) or one whole call.

    text           `{prompt}` stands for the text of the last message, so that answers differ as questions do
    count          None: tokens are words
    finish         how the answer ends; `filter` is cut by a safety filter, for `block_reason`; None: by what was said
    first_token_s  silence before the first event;  token_s: between events
    cut_after      so many events, then the connection breaks;  stall_after: then silence until the caller hangs up
    fault_after    so many events, then `fault` inside the stream
    """

    text: str = ""
    thought: str = ""
    calls: tuple[Call, ...] = ()
    count: Count | None = None
    finish: Literal["stop", "length", "filter"] | None = None
    block_reason: str = ""
    first_token_s: float = 0.0
    token_s: float = 0.0
    cut_after: int | None = None
    stall_after: int | None = None
    fault_after: int | None = None
    fault: Fault = Fault("internal")


Play: TypeAlias = Answer | Fault | Block
"""What one request meets."""


class Script(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a cloud behaves from the moment it is given.

    plays           one a request, in turn;  afterwards `models[model]`, or else `default`
    throttle_s      every request is throttled for so long, and told to come back when it ends
    num_slots       requests at once; the next ones are throttled.  None: any number
    credential_s    how long a credential that the cloud gives out from now on is good for
    """

    plays: tuple[Play, ...] = ()
    default: Play = Answer("It is a fine day in the test cloud.")
    models: dict[str, Play] = {}
    throttle_s: float = 0.0
    num_slots: int | None = None
    credential_s: float = 3600.0


def read_script(path: Path) -> Script:
    """A script from a file of JSON, or of TOML when it is named so.  Raises BadConfig."""
    try:
        decode = msgspec.toml.decode if path.suffix == ".toml" else msgspec.json.decode
        return decode(path.read_bytes(), type=Script)
    except (OSError, msgspec.DecodeError) as error:
        raise BadConfig(
            f"{path} is no script for a test cloud: {error}",
            fix="Write the fields of isochrone.testing.clouds.Script, such as default.text.",
        ) from error


def tokens_of(text: str) -> list[str]:
    """The text as the cloud streams and counts it: words, each with the space after it."""
    return re.findall(r"\s*\S+\s*|\s+", text)
