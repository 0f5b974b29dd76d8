"""Fuzz the tokenizers that come with models (tokenizer.json)."""

from __future__ import annotations

import json
import tempfile
from functools import cache
from pathlib import Path

from tests.fuzz.target import Target

TEXT = "Hello  wörld, 123 \n<s>\U0001f600"


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="fuzz-tokenizer-")


def read(content: bytes) -> None:
    """A tokenizer is refused, or cuts a text into its own tokens and gives a text back."""
    from isochrone.errors import BadModel, BadRequest
    from isochrone.text import load_tokenizer

    (Path(_folder().name) / "tokenizer.json").write_bytes(content)
    try:
        tokenizer = load_tokenizer(_folder().name)
        ids = tokenizer.encode(TEXT, add_special=True)
        assert all(0 <= id < tokenizer.num_tokens for id in ids)
        assert isinstance(tokenizer.decode(ids, skip_special=False), str)
    except (BadModel, BadRequest) as error:
        assert error.message and error.fix


def _tokenizer(**model: object) -> bytes:
    added = [{"id": 0, "content": "<s>", "special": True, "single_word": False, "lstrip": False, "rstrip": False,
              "normalized": False}]  # fmt: skip
    whole = {
        "version": "1.0", "added_tokens": added, "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "post_processor": None, "decoder": {"type": "ByteLevel"}, "model": model,
    }  # fmt: skip
    return json.dumps(whole).encode()


def seeds() -> list[bytes]:
    letters = {letter: at for at, letter in enumerate(["<s>", "H", "e", "l", "o", "Ġ", "He", "ll"])}
    bpe = _tokenizer(type="BPE", vocab=letters, merges=["H e", "l l"], unk_token=None, byte_fallback=False)
    pieces = [["<s>", 0.0], ["H", -1.0], ["ello", -2.5]]
    unigram = _tokenizer(type="Unigram", unk_id=0, vocab=pieces, byte_fallback=True)
    return [b"", b"{}", bpe, unigram, _tokenizer(type="WordPiece", vocab=letters, unk_token="<s>")]


TARGET = Target("tokenizer", read, seeds, ("isochrone.text.load", "isochrone.text.from_hf"), memory_bytes=1024 << 20)
