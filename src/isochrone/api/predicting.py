"""Whether a model fits this machine and how fast it would be, from its config and the machine's profile alone."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from isochrone.config import Settings
from isochrone.errors import BadModel, NotFound
from isochrone.graph.formats import WeightFormat
from isochrone.memory import free_bytes
from isochrone.models import ModelConfig, canonical_names, read_config
from isochrone.predict.model import ModelPrediction, predict_model
from isochrone.predict.shape import FORMS, Form, ModelShape
from isochrone.profile import load_profile, profile_path
from isochrone.weights import Checkpoint, open_checkpoint, store
from isochrone.weights.catalogue import CATALOGUE
from isochrone.weights.hub import fetch_hub_file


def predict(
    model: str, settings: Settings, *, prompt_tokens: int, output_tokens: int, ttft_max_s: float | None = None,
    itl_max_s: float | None = None,
) -> ModelPrediction:  # fmt: skip
    """What each form of a model would take here.  No weights are read, and none are downloaded.

    model  as for every verb, or the path of a config.json
    Raises NotFound when the model or the machine's profile is missing, BadModel, BadConfig.
    """
    profile = load_profile(profile_path())
    config, stored = read_model(model, offline=settings.offline)
    forms = FORMS if stored is None else {stored.name: stored}
    return predict_model(
        shape_of(config), None if stored is not None or settings.weights == "auto" else settings.weights, profile,
        prompt_tokens=prompt_tokens, output_tokens=output_tokens, free_bytes=free_bytes(),
        kv_type=settings.kv_type, threads=settings.threads, ttft_max_s=ttft_max_s, itl_max_s=itl_max_s, forms=forms,
    )  # fmt: skip


def read_model(model: str, *, offline: bool) -> tuple[ModelConfig, Form | None]:
    """A model's config, and the form its file has when it is quantised already (which then is the only one)."""
    if model.endswith(".json"):
        return _from_json(Path(model)), None
    here = store.find(model)
    if here is None:
        return _from_json(_config_from_hub(model, offline=offline)), None
    checkpoint = open_checkpoint(here)
    return config_of(checkpoint), stored_form(checkpoint)


def config_of(checkpoint: Checkpoint) -> ModelConfig:
    """The config of an opened model."""
    return read_config(checkpoint.kind, checkpoint.metadata, checkpoint.tensors)


def stored_form(checkpoint: Checkpoint) -> Form | None:
    """The form of a GGUF file: the format of most of its layers' bytes, and that of its head."""
    if checkpoint.kind != "gguf":
        return None
    names = canonical_names(checkpoint.kind, checkpoint.tensors)
    sizes: Counter[WeightFormat] = Counter()
    for name, own in names.items():
        if name.startswith("layers."):
            sizes[checkpoint.tensors[own].format] += checkpoint.tensors[own].num_bytes
    head = names.get("lm_head", names.get("embed_tokens"))
    if head is None or not sizes:
        raise BadModel(f"{checkpoint.path} has no layers or no embedding.", fix="Take a complete language model.")
    body = sizes.most_common(1)[0][0]
    return Form(body.name, body, checkpoint.tensors[head].format)


def shape_of(config: ModelConfig) -> ModelShape:
    """The sizes that a prediction needs.  Layers that look back less than all are priced as the widest of them."""
    windows = [window for window in config.choices.windows if window is not None]
    return ModelShape(
        hidden=config.hidden_size, intermediate=config.intermediate_size, num_layers=config.num_layers,
        num_heads=config.num_heads, num_kv_heads=config.num_kv_heads, head_dim=config.head_dim,
        vocab=config.vocab_size, context=config.context, is_tied=config.is_tied,
        has_qkv_bias=config.choices.qkv_bias, has_qk_norm=config.has_qk_norm,
        window=max(windows) if len(windows) == config.num_layers else None,
    )  # fmt: skip


def _config_from_hub(model: str, *, offline: bool) -> Path:
    repository = model.partition(":")[0]
    if offline or model in CATALOGUE or ":" in model:
        raise NotFound(f"{model} is not on this machine.", fix=f"isochrone pull {model}, or name its config.json.")
    return fetch_hub_file(repository, "config.json", store.silent)


def _from_json(file: Path) -> ModelConfig:
    try:
        metadata = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise BadModel(f"{file} cannot be read as a model's config: {error}.", fix="Name a config.json.") from error
    if not isinstance(metadata, dict):
        raise BadModel(f"{file} holds no JSON object.", fix="Name a config.json.")
    return read_config("hf", metadata, {})
