"""What the fleet file says of a place at Amazon Bedrock, as its settings.

Options of the place: `api` (`openai` makes it another place, see `bedrock_openai`), `region`, `profile`, `guardrail`
([identifier, version]), `metadata`, `silence_s`, and, for all of its models, `latency`, `service_tier`, `caches`,
`streams`, `lax_tools` and `fields`; `[place.options.models."ID"]` says the latter, and `skills`, for one model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from difflib import get_close_matches
from typing import Any, cast

from isochrone.errors import BadConfig

from .bedrock_settings import FREE, BedrockModel, BedrockSettings, Skills, skills_of
from .place import Ability
from .spec import ModelSpec, PlaceSpec

_OF_MODEL: Mapping[str, tuple[type, tuple[str, ...]]] = {
    "latency": (str, ("standard", "optimized")),
    "service_tier": (str, ("priority", "default", "flex", "reserved")),
    "caches": (bool, ()),
    "streams": (bool, ()),
    "lax_tools": (bool, ()),
    "fields": (dict, ()),
}
_OF_PLACE: Mapping[str, tuple[type, tuple[str, ...]]] = {
    "api": (str, ("converse", "openai")),
    "region": (str, ()),
    "profile": (str, ()),
    "guardrail": (list, ()),
    "metadata": (dict, ()),
    "silence_s": (float, ()),
    "models": (dict, ()),
}
_OWN: Mapping[str, tuple[type, tuple[str, ...]]] = {**_OF_MODEL, "skills": (dict, ())}


def settings_of(spec: PlaceSpec) -> BedrockSettings:
    """Raises BadConfig."""
    options = _checked(spec, spec.options, {**_OF_PLACE, **_OF_MODEL}, "")
    if not spec.models:
        raise _wrong(spec, "names no models of the hundreds there.", 'Add models = ["eu.amazon.nova-lite-v1:0"]')
    own = options.get("models", {})
    for id in own:
        if spec.model(id) is None:
            raise _wrong(spec, f"has options for {id}, which is none of its models.", "Name one of its models")
    shared = {name: options[name] for name in _OF_MODEL if name in options}
    guardrail = options.get("guardrail")
    if guardrail is not None and len(guardrail) != 2:
        raise _wrong(spec, "has a guardrail that is no pair.", 'Write guardrail = ["identifier", "version"]')
    return BedrockSettings(
        models=tuple(_model(spec, model, shared, own.get(model.id, {})) for model in spec.models),
        region=options.get("region") or (None if spec.location in ("local", "site", "") else spec.location),
        endpoint=spec.url or None,
        key=spec.key() or None,
        profile=options.get("profile"),
        price=spec.price or FREE,
        guardrail=None if guardrail is None else (str(guardrail[0]), str(guardrail[1])),
        metadata={key: str(value) for key, value in options.get("metadata", {}).items()},
        silence_s=float(options.get("silence_s", 120.0)),
        num_connections_max=spec.max_in_flight or 0,
    )


def _model(spec: PlaceSpec, model: ModelSpec, shared: Mapping[str, Any], own: Mapping[str, Any]) -> BedrockModel:
    said = {**shared, **_checked(spec, own, _OWN, f"models.{model.id}.")}
    return BedrockModel(
        model.id,
        model.upstream,
        skills=_skills(spec, model, said["skills"]) if "skills" in said else None,
        context=model.context,
        price=model.price,
        quality=model.quality,
        abilities=None if model.abilities is None else cast(tuple[Ability, ...], model.abilities),
        regions=model.regions or spec.regions,
        latency=said.get("latency"),
        tier=said.get("service_tier"),
        caches=said.get("caches", False),
        streams=said.get("streams", True),
        lax_tools=said.get("lax_tools", False),
        fields=dict(said.get("fields", {})),
    )


def _skills(spec: PlaceSpec, model: ModelSpec, said: Mapping[str, Any]) -> Skills:
    """What is said replaces what the id suggests."""
    base = skills_of(model.upstream or model.id)
    kinds = {field.name: (type(getattr(base, field.name)), _CHOICES.get(field.name, ())) for field in fields(Skills)}
    kinds["top_k"] = (list, ())
    checked = _checked(spec, said, kinds, f"models.{model.id}.skills.")
    if "top_k" in checked:
        checked["top_k"] = tuple(checked["top_k"])
    return replace(base, **checked)


_CHOICES = {"schema": ("output", "tool", "no"), "cache": ("no", "5m", "1h"), "effort": ("output", "field", "no")}


def _checked(
    spec: PlaceSpec, said: Mapping[str, Any], known: Mapping[str, tuple[type, tuple[str, ...]]], where: str
) -> dict[str, Any]:
    for key, value in said.items():
        if key not in known:
            near = get_close_matches(key, known, n=1, cutoff=0.0)
            raise _wrong(spec, f"has the option {where}{key}, which is not known.", f"Did you mean {near[0]}")
        kind, choices = known[key]
        if not _is(value, kind) or (choices and value not in choices):
            wanted = " or ".join(choices) if choices else f"a {_NAMES[kind]}"
            raise _wrong(spec, f"has {where}{key} = {value!r}.", f"Make it {wanted}")
    return dict(said)


def _is(value: Any, kind: type) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, kind)


_NAMES = {str: "text", bool: "switch (true or false)", dict: "table", list: "list", float: "number", tuple: "list"}


def _wrong(spec: PlaceSpec, what: str, fix: str) -> BadConfig:
    line = f"line {spec.line}: " if spec.line else ""
    return BadConfig(f"{line}the place {spec.name} {what}", fix=f"{fix}.")
