"""Requests that fail, each in its own way, in every API; and good ones to go beside them."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Any

from tests.gateway.conftest import MODEL

FACES = ("chat", "completions", "responses", "messages", "ollama")
PATHS = {
    "chat": "/v1/chat/completions", "completions": "/v1/completions", "responses": "/v1/responses",
    "messages": "/v1/messages", "ollama": "/api/chat",
}  # fmt: skip
NAN_LETTER, RAISE_LETTER = "~", "^"
"""Rows behind the first are not finite; a step with the second raises."""
WORDS = "the quick brown fox jumps over a lazy dog again since time is on its side".split()


@dataclass(frozen=True, slots=True)
class Sent:
    """One request.  kind  of poison, or `good`;  statuses  that may answer it, empty: nobody waits for one"""

    kind: str
    face: str
    body: bytes
    statuses: frozenset[int] = frozenset({200})

    @property
    def path(self) -> str:
        return PATHS[self.face]


def body(face: str, text: str, num_tokens: int, *, stream: bool = False, **fields: Any) -> dict[str, Any]:
    """A request for a text's answer, greedy unless the fields say otherwise, in the words of that API."""
    turns = [{"role": "user", "content": text}]
    made: dict[str, Any] = {"model": MODEL, "stream": stream}
    match face:
        case "chat":
            made |= {"messages": turns, "max_tokens": num_tokens, "temperature": 0}
        case "completions":
            made |= {"prompt": text, "max_tokens": num_tokens, "temperature": 0}
        case "responses":
            made |= {"input": text, "max_output_tokens": num_tokens, "temperature": 0, "store": False}
        case "messages":
            made |= {"messages": turns, "max_tokens": num_tokens, "temperature": 0}
        case "ollama":
            made |= {"messages": turns, "options": {"num_predict": num_tokens, "temperature": 0}}
    return made | fields


def encoded(made: Any) -> bytes:
    return json.dumps(made).encode()


def good(index: int) -> Sent:
    """Every API, greedy and drawn, streamed and not; some share long beginnings, some come with scores."""
    dice, face = random.Random(index), FACES[index % len(FACES)]
    text = " ".join([*WORDS[: dice.choice([0, 6, 15])], *dice.choices(WORDS, k=dice.randrange(1, 20))])
    fields: dict[str, Any] = {}
    if face in ("chat", "completions") and dice.random() < 0.6:
        fields = {"temperature": 1.0, "seed": index, "n": dice.randrange(1, 3)}
    if face == "completions" and dice.random() < 0.5:
        fields |= {"logprobs": 2}
    if face == "ollama" and dice.random() < 0.5:
        fields = {"options": {"num_predict": 12, "temperature": 0.7, "seed": index}}
    return Sent("good", face, encoded(body(face, text, dice.randrange(4, 16), stream=dice.random() < 0.5, **fields)))


def poisoned(index: int) -> Sent:
    """One of each kind in turn, in every API in turn."""
    kinds = (_not_finite, _absurd, _malformed, _oversized, _hang_up)
    return kinds[index % len(kinds)](FACES[index // len(kinds) % len(FACES)], random.Random(1_000_000 + index))


def _not_finite(face: str, dice: random.Random) -> Sent:
    """Poison in the prompt, which is read in one chunk or in several; a stream has not begun when it shows."""
    letter = dice.choice([NAN_LETTER, NAN_LETTER, NAN_LETTER, RAISE_LETTER])
    text = " ".join(dice.choices(WORDS, k=dice.randrange(60))) + letter + "a" * dice.randrange(3)
    return Sent("not finite", face, encoded(body(face, text, 20, stream=dice.random() < 0.5)), frozenset({500}))


def _absurd(face: str, dice: random.Random) -> Sent:
    """Sampling that no field allows, and the worst of what each allows."""
    refused: list[dict[str, Any]] = [
        {"temperature": -1}, {"temperature": 1e308}, {"temperature": float("nan")}, {"temperature": float("inf")},
        {"top_p": -0.1}, {"top_p": 1e9}, {"top_p": "much"}, {"temperature": [1]},
    ]  # fmt: skip
    taken: list[dict[str, Any]] = [{"temperature": 1, "top_p": 1e-30}, {"temperature": 1e-30}]
    if face in ("chat", "completions"):
        refused += [{"n": 0}, {"n": 10**9}, {"logit_bias": {"99999999": 5}}, {"presence_penalty": 1e30}]
        refused.append({"seed": 2**70})
        taken += [
            {"logit_bias": {str(token): -100 for token in range(300)}}, {"n": 60, "temperature": 2},
            {"presence_penalty": 2, "frequency_penalty": -2, "repetition_penalty": 100, "temperature": 2},
            {"min_p": 1, "top_k": 1, "top_p": 0.0001, "temperature": 2}, {"seed": -(2**63), "temperature": 2},
        ]  # fmt: skip
    is_refused = dice.random() < 0.5
    fields = dice.choice(refused if is_refused else taken)
    if face == "ollama":
        fields = {"options": {"num_predict": 9} | fields}
    text = " ".join(dice.choices(WORDS, k=5))
    # What is taken may draw the poisoned letter, and then fails as it.
    return Sent("absurd", face, encoded(body(face, text, 9) | fields), frozenset({400} if is_refused else {200, 500}))


def _malformed(face: str, dice: random.Random) -> Sent:
    """Bodies that are no JSON, not an object, cut, nested, of wrong types or without what is needed."""
    whole = body(face, "the quick", 5)
    key = next(key for key in ("messages", "prompt", "input") if key in whole)
    broken = [
        b"", b"null", b"[]", b"\xff\xfe", b"{", encoded(whole)[: dice.randrange(1, 40)], encoded(whole) + b"}",
        b'{"model":"tiny","' + key.encode() + b'":' + b"[" * 3000, encoded(whole | {key: {"a": 1}}),
        encoded(whole | {key: 7}), encoded({k: v for k, v in whole.items() if k != "model"}),
        encoded(whole | {"model": 3}),
        encoded(whole | {"stream": "perhaps"}), encoded(whole | {"tools": "hammer"}),
        encoded(whole | {key: [{"role": "ghost", "content": "boo"}]}), encoded(whole).replace(b"the", b"\xc3\x28"),
    ]  # fmt: skip
    return Sent("malformed", face, dice.choice(broken), frozenset({400, 422}))


def _oversized(face: str, dice: random.Random) -> Sent:
    """More bytes, more tokens or more answers than are taken."""
    choice = dice.randrange(3)
    if choice == 0:
        return Sent("oversized", face, encoded(body(face, "x" * 300_000, 5)), frozenset({413}))
    if choice == 1:
        return Sent("oversized", face, encoded(body(face, "zx" * 3_000, 5)), frozenset({400}))
    made = body(face, "the", 5)
    tools = [{"type": "function", "x": "y" * 900}] * 200
    made |= {"prompt": ["a"] * 300} if face == "completions" else {"tools": tools}
    return Sent("oversized", face, encoded(made), frozenset({400, 413}))


def _hang_up(face: str, dice: random.Random) -> Sent:
    """Long to read and long to write, so that there is a phase to leave in."""
    phase = dice.choice(["body", "queue", "prefill", "stream"])
    text = " ".join(dice.choices(WORDS, k=60))
    return Sent(f"left in {phase}", face, encoded(body(face, text, 100, stream=True)), frozenset())
