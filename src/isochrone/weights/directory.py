"""A Hugging Face directory: config.json, one or more safetensors files, and what lies beside them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import BadModel
from .here import INDEX, SINGLE
from .mapping import MappedFile
from .safetensors import SafetensorsFile, parse_json, read_safetensors
from .tensor import StoredTensor

CONFIG_BYTES_MAX = 1 << 26
"""Longest JSON or text file that is read: the index of a large model has some megabytes."""
NUM_SHARDS_MAX = 4096
CARD_BYTES = 1 << 16
"""Bytes of a model card that are searched for its licence, which stands in the first lines."""


@dataclass(frozen=True, slots=True, eq=False)
class ModelDirectory:
    """What a directory holds.  Tensors of all shards under one roof."""

    config: Mapping[str, Any]
    generation: Mapping[str, Any]
    tensors: Mapping[str, StoredTensor]
    other_types: Mapping[str, str]
    files: tuple[MappedFile, ...]
    chat_template: str | None
    license: str | None


def read_directory(directory: Path) -> ModelDirectory:
    """Read the headers of a model directory.  Raises NotFound or BadModel, nothing else."""
    config = read_json(directory / "config.json")
    if config is None:
        raise BadModel(f"{directory} has no config.json.", fix="Name a model directory or a GGUF file.")
    if "quantization_config" in config or "compression_config" in config:
        raise BadModel(
            f"{directory}/config.json says that its weights are quantised; only F32, F16 and BF16 are read from "
            "safetensors.",
            fix="Take the unquantised model, or a GGUF file of it.",
        )
    shards = _read_shards(directory)
    return ModelDirectory(
        config=config,
        generation=read_json(directory / "generation_config.json") or {},
        tensors={name: tensor for shard in shards for name, tensor in shard.tensors.items()},
        other_types={name: kind for shard in shards for name, kind in shard.other_types.items()},
        files=tuple(shard.mapped for shard in shards),
        chat_template=_chat_template(directory),
        license=_license(directory, config),
    )


def read_text(path: Path) -> str | None:
    """A text file of a model, or None where there is none.  Raises BadModel."""
    if not os.path.exists(path):
        return None
    if os.path.isfile(path) and os.path.getsize(path) == 0:
        return ""
    data = MappedFile.open(path).data
    if len(data) > CONFIG_BYTES_MAX:
        raise BadModel(f"{path} has {len(data)} bytes; at most {CONFIG_BYTES_MAX} are read.", fix="Check the file.")
    try:
        return data.tobytes().decode()
    except UnicodeDecodeError as error:
        raise BadModel(f"{path} is not UTF-8 ({error.reason}).", fix="Download the file again.") from error


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object beside a model, or None where there is no such file.  Raises BadModel."""
    text = read_text(path)
    return None if text is None else parse_json(path, text.encode())


def _read_shards(directory: Path) -> list[SafetensorsFile]:
    index = read_json(directory / INDEX)
    if index is None:
        if not os.path.exists(directory / SINGLE):
            raise BadModel(f"{directory} has neither {SINGLE} nor {INDEX}.", fix="Convert its weights to safetensors.")
        return [read_safetensors(directory / SINGLE)]
    places = index.get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise BadModel(f"{directory / INDEX} has no weight_map of names to files.", fix="Download the file again.")
    names = sorted(set(places.values()))
    if len(names) > NUM_SHARDS_MAX:
        raise BadModel(
            f"{directory / INDEX} names {len(names)} files; at most {NUM_SHARDS_MAX} are read.", fix="Check it."
        )
    for name in names:
        if Path(name).name != name or name in ("", ".", "..") or not name.isprintable():
            raise BadModel(
                f"{directory / INDEX} names the file {name[:80]!r}, outside its directory.", fix="Do not use it."
            )
    shards = {name: read_safetensors(directory / name) for name in names}
    for tensor, name in places.items():
        if tensor not in shards[name].tensors and tensor not in shards[name].other_types:
            raise BadModel(
                f"{directory / INDEX} puts {tensor[:80]!r} into {name}, which lacks it.", fix="Download both again."
            )
    _refuse_doubles(directory, shards)
    return list(shards.values())


def _refuse_doubles(directory: Path, shards: Mapping[str, SafetensorsFile]) -> None:
    seen: dict[str, str] = {}
    for file, shard in shards.items():
        for name in (*shard.tensors, *shard.other_types):
            if name in seen:
                raise BadModel(f"{directory} has tensor {name[:80]!r} in {seen[name]} and in {file}.", fix="Keep one.")
            seen[name] = file


def _chat_template(directory: Path) -> str | None:
    """From chat_template.jinja, else from tokenizer_config.json (one text, or a list with one named default)."""
    text = read_text(directory / "chat_template.jinja")
    if text is not None:
        return text
    template = (read_json(directory / "tokenizer_config.json") or {}).get("chat_template")
    if isinstance(template, list):
        named = [entry for entry in template if isinstance(entry, dict) and entry.get("name") == "default"]
        template = named[0].get("template") if named else None
    if template is not None and not isinstance(template, str):
        raise BadModel(f"{directory}/tokenizer_config.json has a chat_template that is no text.", fix="Check the file.")
    return template


def _license(directory: Path, config: Mapping[str, Any]) -> str | None:
    """The licence that the model card's first lines name, else config.json's."""
    path = directory / "README.md"
    # A card is prose: what is wrong with it is no reason not to run the model.
    card = (
        _first_bytes(path, CARD_BYTES).decode("utf-8", "replace") if os.access(path, os.R_OK) and path.is_file() else ""
    )
    if card.startswith("---\n"):
        for line in card.split("\n---", 1)[0].splitlines():
            if line.startswith("license:"):
                return line.removeprefix("license:").strip().strip("'\"")
    named = config.get("license")
    return named if isinstance(named, str) else None


def _first_bytes(path: Path, num_bytes: int) -> bytes:
    with open(path, "rb") as stream:
        return stream.read(num_bytes)
