"""A tokenizer from a Hugging Face directory: tokenizer.json, or the older vocabulary files beside their settings."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from isochrone.errors import BadModel, NotFound

from .from_gguf import spec_from_gguf
from .sentencepiece_model import metadata_from_sentencepiece
from .spec import NUM_TOKENS_MAX, TokenizerSpec

FILE_BYTES_MAX = 256 << 20
_PRE_BY_CLASS = {"GPT2Tokenizer": "gpt-2", "Qwen2Tokenizer": "qwen2", "CodeGenTokenizer": "gpt-2"}
_FIX = "Download the model again, or ask its author for a complete tokenizer.json."


def spec_from_directory(path: str | os.PathLike[str]) -> TokenizerSpec:
    """The tokenizer of a model directory. Raises NotFound when it has none, BadModel when it is broken."""
    directory = Path(path)
    settings = _read_json(directory / "tokenizer_config.json")
    library = _library(directory, settings)
    tokens, special_ids = _tokens(library, directory)
    named = _named_tokens(settings, _read_json(directory / "special_tokens_map.json"))
    ids = {token: i for i, token in enumerate(tokens) if token is not None}
    return TokenizerSpec(
        library={**library, "truncation": None, "padding": None},
        tokens=tokens,
        special_ids=special_ids,
        bos_id=ids.get(named.get("bos_token", "")),
        eos_ids=_eos_ids(directory, ids.get(named.get("eos_token", "")), len(tokens)),
        chat_template=_chat_template(directory, settings),
        named_tokens=named,
    )


def _library(directory: Path, settings: Mapping[str, Any]) -> Mapping[str, Any]:
    if (directory / "tokenizer.json").is_file():
        return _read_json(directory / "tokenizer.json")
    for name in ("tokenizer.model", "spiece.model"):
        if (directory / name).is_file():
            return _from_sentencepiece(directory / name, settings)
    if (directory / "vocab.json").is_file() and (directory / "merges.txt").is_file():
        return _from_vocabulary(directory, settings)
    raise NotFound(
        f"{directory} has no tokenizer: neither tokenizer.json, tokenizer.model, nor vocab.json with merges.txt.",
        fix="Download the tokenizer files into the model's directory.",
    )


def _from_vocabulary(directory: Path, settings: Mapping[str, Any]) -> Mapping[str, Any]:
    name = str(settings.get("tokenizer_class", "")).removesuffix("Fast")
    if name not in _PRE_BY_CLASS:
        raise BadModel(
            f"{directory} has vocab.json and merges.txt of tokenizer class {name!r}, whose way to split words is "
            f"unknown here; known are {', '.join(_PRE_BY_CLASS)}.",
            fix="Save the tokenizer with transformers, which writes a tokenizer.json.",
        )
    vocabulary = _read_json(directory / "vocab.json")
    added = {str(text): id for text, id in _read_json(directory / "added_tokens.json").items()}
    for id, entry in _added_by_settings(settings).items():
        added[entry["content"]] = id
    specials = {entry["content"] for entry in _added_by_settings(settings).values() if entry.get("special")}
    tokens = _by_id({**vocabulary, **added}, directory)
    if None in tokens:
        raise BadModel(f"{directory}/vocab.json leaves id {tokens.index(None)} without a token.", fix=_FIX)
    named = {str(text) for text in _named_tokens(settings, {}).values()}
    kinds = [3 if t in specials or t in named else 4 if t in added else 1 for t in tokens]
    merges = [m for m in _read_text(directory / "merges.txt").splitlines() if m and not m.startswith("#version")]
    return spec_from_gguf(
        {
            "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": _PRE_BY_CLASS[name], "tokenizer.ggml.tokens": tokens,
            "tokenizer.ggml.token_type": kinds, "tokenizer.ggml.merges": merges,
        }
    ).library  # fmt: skip


def _from_sentencepiece(path: Path, settings: Mapping[str, Any]) -> Mapping[str, Any]:
    metadata = metadata_from_sentencepiece(_read_bytes(path), str(path))
    for key in ("add_bos_token", "add_eos_token"):
        if isinstance(settings.get(key), bool):
            metadata[f"tokenizer.ggml.{key}"] = settings[key]
    tokens, kinds = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
    for id, entry in sorted(_added_by_settings(settings).items()):
        if id == len(tokens):
            tokens.append(entry["content"])
            metadata["tokenizer.ggml.scores"].append(0.0)
            kinds.append(3 if entry.get("special") else 4)
    return spec_from_gguf(metadata).library


def _added_by_settings(settings: Mapping[str, Any]) -> dict[int, Mapping[str, Any]]:
    entries = settings.get("added_tokens_decoder", {})
    if not isinstance(entries, dict):
        raise BadModel("added_tokens_decoder in tokenizer_config.json is not an object.", fix=_FIX)
    good = {int(id): e for id, e in entries.items() if id.isdigit() and isinstance(e, dict)}
    return {id: e for id, e in good.items() if isinstance(e.get("content"), str)}


def _tokens(library: Mapping[str, Any], directory: Path) -> tuple[list[str | None], frozenset[int]]:
    model = library.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(vocabulary, list) and all(isinstance(entry, list) and entry for entry in vocabulary):
        vocabulary = {entry[0]: i for i, entry in enumerate(vocabulary)}
    added = library.get("added_tokens", [])
    if not isinstance(vocabulary, dict) or not isinstance(added, list) or not all(isinstance(a, dict) for a in added):
        raise BadModel(f"{directory}/tokenizer.json has no vocabulary.", fix=_FIX)
    by_id = _by_id({**vocabulary, **{entry.get("content"): entry.get("id") for entry in added}}, directory)
    return by_id, frozenset(entry["id"] for entry in added if entry.get("special") is True)


def _by_id(ids: Mapping[Any, Any], directory: Path) -> list[str | None]:
    for token, id in ids.items():
        if not isinstance(token, str) or not isinstance(id, int) or not 0 <= id < NUM_TOKENS_MAX:
            raise BadModel(f"The tokenizer of {directory} gives token {token!r} the id {id!r}.", fix=_FIX)
    tokens: list[str | None] = [None] * (max(ids.values(), default=-1) + 1)
    for token, id in ids.items():
        tokens[id] = token
    return tokens


def _named_tokens(*sources: Mapping[str, Any]) -> dict[str, str]:
    """bos_token and its kin, each a text or an object with the text in `content`; the first source wins."""
    found: dict[str, str] = {}
    for source in sources:
        for name in ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token"):
            value = source.get(name)
            text = value.get("content") if isinstance(value, dict) else value
            if isinstance(text, str):
                found.setdefault(name, text)
    return found


def _eos_ids(directory: Path, eos_id: int | None, num_tokens: int) -> tuple[int, ...]:
    """Every id that ends an answer: generation_config.json knows them all, the tokenizer knows one."""
    for name in ("generation_config.json", "config.json"):
        value = _read_json(directory / name).get("eos_token_id")
        ids = value if isinstance(value, list) else [value]
        if all(isinstance(id, int) and 0 <= id < num_tokens for id in ids):
            return tuple(dict.fromkeys([*ids, *([] if eos_id is None else [eos_id])]))
    return () if eos_id is None else (eos_id,)


def _chat_template(directory: Path, settings: Mapping[str, Any]) -> str | None:
    if (directory / "chat_template.jinja").is_file():
        return _read_text(directory / "chat_template.jinja")
    template = settings.get("chat_template")
    if isinstance(template, list):  # several by name; "default" is the one for chat
        named = {t.get("name"): t.get("template") for t in template if isinstance(t, dict)}
        template = named.get("default")
    if template is not None and not isinstance(template, str):
        raise BadModel(f"chat_template in {directory}/tokenizer_config.json is not a text.", fix=_FIX)
    return template


def _read_bytes(path: Path) -> bytes:
    if path.stat().st_size > FILE_BYTES_MAX:
        raise BadModel(f"{path} has {path.stat().st_size} bytes; no tokenizer is that large.", fix=_FIX)
    return path.read_bytes()


def _read_text(path: Path) -> str:
    try:
        return _read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadModel(f"{path} is not UTF-8 at byte {error.start}.", fix=_FIX) from error


def _read_json(path: Path) -> Mapping[str, Any]:
    """The object in a file; an absent file is an empty object, as each of them may be absent."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(_read_text(path))
    except (ValueError, RecursionError) as error:
        raise BadModel(f"{path} is not JSON: {error}.", fix=_FIX) from error
    if not isinstance(value, dict):
        raise BadModel(f"{path} should hold an object, but holds a {type(value).__name__}.", fix=_FIX)
    return value
