"""Fuzz what an answer may be held to (JSON schemas, expressions, grammars)."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from tests.fuzz.target import Target

KINDS = ("json_schema", "regex", "lark")
NUM_STEPS = 16


class Bytes:
    """A vocabulary of the 256 bytes and an end token.  Fulfils `Tokens`."""

    num_tokens, bos_id, eos_ids = 257, None, (256,)

    def warm(self) -> None:
        """Nothing is to be made."""

    def encode(self, text: str, add_special: bool = True) -> list[int]:
        return list(text.encode())

    def piece(self, id: int) -> bytes:
        return bytes([id]) if id < 256 else b""

    def is_special(self, id: int) -> bool:
        return id == 256

    def id_to_token(self, id: int) -> str | None:
        return "<|end|>" if id == 256 else chr(id)


@cache
def _vocabulary() -> Any:
    from isochrone.text.grammar import Vocabulary

    return Vocabulary(Bytes(), 257)


def read(content: bytes) -> None:
    """The first byte picks the kind.  What is taken is followed for some tokens: each mask offers one that it takes."""
    from isochrone.errors import BadGrammar
    from isochrone.text.grammar import compile_grammar

    kind = KINDS[content[0] % len(KINDS)] if content else KINDS[0]
    try:
        matcher = compile_grammar(kind, content[1:].decode("utf-8", "replace"), _vocabulary())  # type: ignore[arg-type]
        for step in range(NUM_STEPS):
            if matcher.is_over:
                return
            words = matcher.mask()
            allowed = [id for id in range(256) if words[id // 32] >> (id % 32) & 1]
            if not allowed:
                return
            matcher.push(allowed[step % len(allowed)])
    except BadGrammar as error:
        assert error.message and error.fix


def seeds() -> list[bytes]:
    schema = {
        "type": "object", "properties": {"a": {"type": "integer", "minimum": 1}, "b": {"enum": ["x", None]}},
        "required": ["a"], "additionalProperties": False, "$defs": {"n": {"anyOf": [{"type": "null"}, {"$ref": "#"}]}},
    }  # fmt: skip
    array = {"type": "array", "items": {"type": "string", "pattern": "^[a-c]{1,3}$"}, "maxItems": 3}
    return [
        b"", b"\0" + json.dumps(schema).encode(), b"\0" + json.dumps(array).encode(), b"\0{}",
        b"\1[a-z]+(foo|bar){2,5}\\d*", b'\2start: "a" rest\nrest: /[0-9]+/ | "(" rest ")"\n',
    ]  # fmt: skip


TARGET = Target("schema", read, seeds, ("isochrone.text.grammar",), memory_bytes=1024 << 20)
