"""The few fields we need of a SentencePiece model file (a protocol buffer), named as GGUF names them."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from isochrone.errors import BadModel

_PIECES, _TRAINER, _NORMALIZER = 1, 2, 3  # fields of ModelProto
_UNIGRAM, _BPE = 1, 2  # TrainerSpec.model_type
_KINDS = {_UNIGRAM: "t5", _BPE: "llama"}


def metadata_from_sentencepiece(data: bytes, path: str) -> dict[str, Any]:
    """`tokenizer.ggml.*` of a tokenizer.model. Raises BadModel when it is damaged, or of a kind not in use."""
    tokens, scores, types = [], [], []
    trainer: dict[int, Any] = {}
    normalizer: dict[int, Any] = {}
    try:
        for number, value in _fields(data):
            if number == _PIECES:
                piece = dict(_fields(value))
                tokens.append(piece.get(1, b"").decode("utf-8"))
                scores.append(struct.unpack("<f", piece[2])[0] if 2 in piece else 0.0)
                types.append(piece.get(3, 1))
            elif number == _TRAINER:
                trainer = dict(_fields(value))
            elif number == _NORMALIZER:
                normalizer = dict(_fields(value))
    except (ValueError, IndexError, TypeError, AttributeError, struct.error) as error:
        raise BadModel(f"{path} is not a SentencePiece model: {error}.", fix="Download the file again.") from error
    kind = _KINDS.get(trainer.get(3, _UNIGRAM))
    if kind is None:
        raise BadModel(
            f"{path} is a SentencePiece model of type {trainer.get(3)}; unigram (1) and BPE (2) are known.",
            fix="Save the tokenizer with transformers, which writes a tokenizer.json.",
        )
    return _named(kind, trainer, normalizer, {"tokens": tokens, "scores": scores, "token_type": types})


def _named(kind: str, trainer: dict[int, Any], normalizer: dict[int, Any], pieces: dict[str, Any]) -> dict[str, Any]:
    facts = {
        **pieces,
        "model": kind,
        "unknown_token_id": trainer.get(40, 0),
        "bos_token_id": _id(trainer.get(41, 1)),
        "eos_token_id": _id(trainer.get(42, 2)),
        "add_space_prefix": bool(normalizer.get(3, 1)),
        "remove_extra_whitespaces": bool(normalizer.get(4, 1)),
        "precompiled_charsmap": normalizer.get(2) or None,
    }
    return {f"tokenizer.ggml.{name}": value for name, value in facts.items() if value is not None}


def _id(value: int) -> int | None:
    return value if value < 1 << 31 else None  # -1 means that there is none


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """(field number, value) of a message: integers for varints, bytes for all else."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield number, value
            continue
        if wire == 2:
            length, at = _varint(data, at)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise ValueError(f"field {number} has wire type {wire}")
        if length > len(data) - at:
            raise ValueError(f"field {number} ends past the end of its message")
        yield number, data[at : at + length]
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("an integer is longer than 64 bits")
