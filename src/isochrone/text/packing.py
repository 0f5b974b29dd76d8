"""A tokenizer made into its table: done once for a model, when nothing is cached yet."""

from __future__ import annotations

import base64
import json
import sys
import zlib
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from isochrone.errors import BadModel

from .decoding import BYTE_OF_LETTER, decoding_from_json
from .spec import TokenizerSpec
from .table import ABSENT, ADDED, MAGIC, ORDINARY, PREFIX, SPECIAL
from .tokenizer import load_library

_FIX = "Download the model's tokenizer again."


def pack(spec: TokenizerSpec, key: str | None = None) -> bytes:
    """The table of a tokenizer, good while `key` is the same. Raises BadModel when the tokenizer contradicts itself."""
    _check_charsmaps(spec.library.get("normalizer"))
    _check_unknown(spec.library.get("model"))
    library = _json(spec.library)
    load_library(library)  # refuses what is broken now, not at a first request; below, its form is known to be sound
    added = frozenset(entry.get("id") for entry in spec.library.get("added_tokens", ()))
    texts = [_utf8(token) for token in spec.tokens]
    kinds = bytes(
        ABSENT if token is None else SPECIAL if i in spec.special_ids else ADDED if i in added else ORDINARY
        for i, token in enumerate(spec.tokens)
    )
    model = spec.library.get("model", {})
    pairs = _merges(spec) if _can_merge(model) else {}
    order = sorted(pairs)
    sections = {
        "token_ends": array("I", _ends(texts)).tobytes(),
        "token_text": b"".join(texts),
        "token_kind": kinds,
        "lookup": array("Q", _lookup(texts, kinds)).tobytes(),
        "merge_pairs": array("Q", order).tobytes(),
        "merge_ranks": array("Q", [pairs[pair] for pair in order]).tobytes(),
        "splitter": _json(_splitter(spec, added)) if pairs else b"",
        "library": library,
    }
    facts = {
        "key": key, "bos_id": spec.bos_id, "eos_ids": spec.eos_ids, "chat_template": spec.chat_template,
        "named_tokens": dict(spec.named_tokens), "whole_words": bool(pairs) and model.get("ignore_merges") is True,
        "decoding": asdict(decoding_from_json(spec.library.get("decoder"))),
    }  # fmt: skip
    return _assemble(facts, sections)


def _check_charsmaps(normalizer: Any) -> None:
    """The library reserves what a character map claims for its trie, 4 GB if it says so, and aborts without."""
    if not isinstance(normalizer, dict):
        return
    steps = normalizer.get("normalizers")
    for step in steps if isinstance(steps, list) else ():
        _check_charsmaps(step)
    if normalizer.get("type") == "Precompiled":
        try:
            charsmap = base64.b64decode(normalizer.get("precompiled_charsmap", ""), validate=True)
        except (ValueError, TypeError) as error:
            raise BadModel(f"The tokenizer's character map is not base64: {error}.", fix=_FIX) from error
        claimed = int.from_bytes(charsmap[:4], "little")
        if claimed % 4 or not 4 <= claimed + 4 <= len(charsmap):
            raise BadModel(
                f"The tokenizer's character map claims a trie of {claimed} bytes, but has {len(charsmap)} in all.",
                fix=_FIX,
            )


def _check_unknown(model: Any) -> None:
    """Without this token the library would fail at the first text with a character that no token covers."""
    if isinstance(model, dict) and model.get("type") == "Unigram" and model.get("unk_id") is None:
        raise BadModel("The tokenizer is a unigram model and names no token for what it does not know.", fix=_FIX)


def _can_merge(model: Mapping[str, Any]) -> bool:
    """Whether the merges alone say how a word becomes tokens, so that they can be followed without the library."""
    affixes = model.get("continuing_subword_prefix") or model.get("end_of_word_suffix") or model.get("dropout")
    if model.get("type") != "BPE" or affixes:
        return False
    every_byte = all(chr(letter) in model["vocab"] for letter in BYTE_OF_LETTER)
    return every_byte or not model.get("ignore_merges")


def _merges(spec: TokenizerSpec) -> dict[int, int]:
    """Pair of ids -> rank and merged id. The library has checked that merges join known tokens into known ones."""
    vocabulary, found = spec.library["model"]["vocab"], {}
    for rank, merge in enumerate(spec.library["model"].get("merges", ())):
        left, right = merge.split(" ", 1) if isinstance(merge, str) else merge
        found[vocabulary[left] << 32 | vocabulary[right]] = rank << 32 | vocabulary[left + right]
    return found


def _splitter(spec: TokenizerSpec, added: frozenset[Any]) -> dict[str, Any]:
    """The same tokenizer with no merges: it cuts a text into words and these into letters, just as the whole does."""
    model = spec.library["model"]
    unknown = model.get("unk_token")
    letters = {
        token: id
        for token, id in model["vocab"].items()
        if len(token) == 1 or id in added or token == unknown or (len(token) == 6 and token.startswith("<0x"))
    }
    cut_out = {entry["content"]: entry["id"] for entry in spec.library.get("added_tokens", ())}
    letters_only = {**model, "vocab": {**letters, **cut_out}, "merges": [], "ignore_merges": False}
    return {**spec.library, "model": letters_only}


def _ends(texts: Sequence[bytes]) -> list[int]:
    ends, end = [], 0
    for text in texts:
        end += len(text)
        ends.append(end)
    return ends


def _lookup(texts: Sequence[bytes], kinds: bytes) -> list[int]:
    return sorted(zlib.crc32(text) << 32 | i for i, text in enumerate(texts) if kinds[i] != ABSENT)


def _assemble(facts: Mapping[str, Any], sections: Mapping[str, bytes]) -> bytes:
    places, at = {}, 0
    for name, data in sections.items():
        places[name] = (at, len(data))
        at += -(-len(data) // 8) * 8
    header = _json({"facts": facts, "sections": places, "size": at, "order": sys.byteorder})
    header += b" " * (-(len(header) + PREFIX.size) % 8)
    body = b"".join(data + bytes(-len(data) % 8) for data in sections.values())
    return PREFIX.pack(MAGIC, len(header), zlib.crc32(header)) + header + body


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def _utf8(token: str | None) -> bytes:
    return b"" if token is None else token.encode("utf-8", "replace")
