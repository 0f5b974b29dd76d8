"""From the configuration of LiteLLM's proxy to a fleet file, and a list of what has no counterpart here.

Every entry of `model_list` becomes a model of a place, every `model_name` a route over all of its entries.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from isochrone.errors import BadConfig

from .file import LOOPBACK, is_url

OPENAI_URL = "https://api.openai.com/v1"
HOSTS: Mapping[str, tuple[str, str]] = {
    "openai": (OPENAI_URL, "OPENAI_API_KEY"),
    "hosted_vllm": ("", "HOSTED_VLLM_API_KEY"),
    "vllm": ("", ""),
    "lm_studio": ("", ""),
    "llamafile": ("http://127.0.0.1:8080/v1", ""),
    "ollama": ("http://127.0.0.1:11434/v1", ""),
    "ollama_chat": ("http://127.0.0.1:11434/v1", ""),
    "groq": ("https://api.groq.com/openai/v1", "GROQ_API_KEY"),
    "together_ai": ("https://api.together.xyz/v1", "TOGETHERAI_API_KEY"),
    "mistral": ("https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
    "deepseek": ("https://api.deepseek.com/v1", "DEEPSEEK_API_KEY"),
    "fireworks_ai": ("https://api.fireworks.ai/inference/v1", "FIREWORKS_AI_API_KEY"),
    "openrouter": ("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
    "xai": ("https://api.x.ai/v1", "XAI_API_KEY"),
}
"""Providers that speak OpenAI's protocol -> (address, variable of the key)."""
CLOUDS = {"bedrock": "bedrock", "vertex_ai": "vertex", "gemini": "gemini"}
_ROUTES_OF_BEDROCK = ("converse/", "invoke/", "converse_like/")
_USED = frozenset(
    "model api_base base_url api_key aws_region_name vertex_project vertex_location max_parallel_requests "
    "input_cost_per_token output_cost_per_token cache_read_input_token_cost cache_creation_input_token_cost".split()
)
_WORD = re.compile(r"[^A-Za-z0-9]+")


@dataclass
class _Model:
    upstream: str
    price: dict[str, float]


@dataclass
class _Place:
    name: str
    kind: str
    url: str
    key_env: str
    location: str
    options: dict[str, str]
    max_in_flight: int | None = None
    models: dict[str, _Model] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Translated:
    """text  of the fleet file;  left_out: a sentence for each thing that has no counterpart"""

    text: str
    left_out: tuple[str, ...]


def translate(config: Mapping[str, Any]) -> Translated:
    """A fleet file that says what can be said of it.  Raises BadConfig when there is no model to carry over."""
    entries = config.get("model_list")
    if not isinstance(entries, list) or not entries:
        fix = "Name the file that LiteLLM's proxy is started with."
        raise BadConfig("The configuration has no model_list.", fix=fix)
    made = _Made()
    for entry in entries:
        made.take(entry)
    if not made.places:
        raise BadConfig(
            f"None of its {len(entries)} models can be carried over. {' '.join(made.left_out)}",
            fix="Write the fleet file by hand: a [[place]] for each server.",
        )
    made.take_settings(config)
    return Translated("\n".join(_written(made)), tuple(dict.fromkeys(made.left_out)))


class _Made:
    """What has been carried over so far."""

    def __init__(self) -> None:
        self.places: dict[tuple[str, ...], _Place] = {}
        self.routes: dict[str, list[str]] = {}
        self.left_out: list[str] = []
        self.total_s: float | None = None

    def take(self, entry: Any) -> None:
        """One entry of the list."""
        params = entry.get("litellm_params") if isinstance(entry, Mapping) else None
        model = params.get("model") if isinstance(params, Mapping) else None
        if not isinstance(params, Mapping) or not isinstance(model, str):
            self.left_out.append("An entry of model_list without litellm_params.model.")
            return
        name = str(entry.get("model_name", model))
        place, upstream = self._place_of(name, model, params)
        if place is None:
            return
        place.models.setdefault(upstream, _Model(upstream, _price(params)))
        targets = self.routes.setdefault(name, [])
        if (target := f"{place.name}/{upstream}") not in targets:
            targets.append(target)
        for key in params.keys() - _USED:
            self.left_out.append(f"{name}: litellm_params.{key}.")

    def take_settings(self, config: Mapping[str, Any]) -> None:
        """Fallbacks, aliases and the time limit; the rest is told."""
        for section, settings in config.items():
            if section == "model_list" or not isinstance(settings, Mapping):
                continue
            for key, value in settings.items():
                self._setting(f"{section}.{key}", key, value)

    def _setting(self, told: str, key: str, value: Any) -> None:
        match key, value:
            case "fallbacks", list():
                for one in value:
                    for name, others in one.items() if isinstance(one, Mapping) else ():
                        self._fall_back(str(name), others if isinstance(others, list) else [others])
            case "model_group_alias", dict():
                for alias, name in value.items():
                    if name in self.routes:
                        self.routes[str(alias)] = list(self.routes[name])
            case ("request_timeout" | "timeout"), int() | float():
                self.total_s = float(value) if self.total_s is None else min(self.total_s, float(value))
            case "master_key", _:
                self.left_out.append(f"{told}: make keys with `isochrone keys add NAME`.")
            case "routing_strategy", _:
                self.left_out.append(f"{told}: here each request's budget decides.")
            case _:
                self.left_out.append(f"{told}.")

    def _fall_back(self, name: str, others: list[Any]) -> None:
        targets = self.routes.get(name)
        for other in others:
            found = self.routes.get(str(other))
            if targets is None or found is None:
                self.left_out.append(f"The fallback from {name} to {other}: one of them was not carried over.")
            else:
                targets += [target for target in found if target not in targets]
                self.left_out.append(
                    f"The order of the fallback from {name} to {other}: here it is one of several that may answer."
                )

    def _place_of(self, name: str, model: str, params: Mapping[str, Any]) -> tuple[_Place | None, str]:
        """(the place, the model's name there); None for what has none here, which is told."""
        provider, slash, upstream = model.partition("/")
        if provider not in HOSTS and provider not in CLOUDS:
            is_own_name = not slash and (model.startswith(("gpt-", "chatgpt-")) or re.match(r"o\d", model))
            if not is_own_name and not params.get("api_base"):
                self.left_out.append(f"{name}: {model} is at a provider that has no kind of place here.")
                return None, ""
            if provider in ("azure", "azure_ai", "anthropic", "sagemaker", "cohere", "replicate"):
                self.left_out.append(f"{name}: {provider} does not speak a protocol that is spoken here.")
                return None, ""
            provider, upstream = "openai", model
        for prefix in _ROUTES_OF_BEDROCK if provider == "bedrock" else ():
            upstream = upstream.removeprefix(prefix)
        if "*" in upstream or not upstream:
            self.left_out.append(f"{name}: {model or 'an empty text'} names no single model: name those that you use.")
            return None, ""
        found = self._cloud(name, provider, upstream, params) if provider in CLOUDS else self._host(provider, params)
        if found is None:
            self.left_out.append(f"{name}: {model} names no address of a server.")
            return None, ""
        return self._known(provider, found, name, params), upstream

    def _cloud(self, name: str, provider: str, upstream: str, params: Mapping[str, Any]) -> _Place:
        kind, location, options = CLOUDS[provider], "global", {}
        if kind == "bedrock":
            location = _plain(params.get("aws_region_name")) or "us-east-1"
            if not _plain(params.get("aws_region_name")):
                self.left_out.append(f"{name}: its region of AWS; us-east-1 stands there now.")
        if kind == "vertex":
            location = _plain(params.get("vertex_location")) or "us-central1"
            options = {"project": project} if (project := _plain(params.get("vertex_project"))) else {}
        default = "GEMINI_API_KEY" if kind == "gemini" else ""
        return _Place("", kind, "", self._key(provider, params, default), location, options)

    def _host(self, provider: str, params: Mapping[str, Any]) -> _Place | None:
        url, default = HOSTS[provider]
        url = _plain(params.get("api_base") or params.get("base_url")) or url
        if not is_url(url):
            return None
        if provider in ("ollama", "ollama_chat") and not urlsplit(url).path.strip("/"):
            url = url.rstrip("/") + "/v1"
        return _Place("", "openai", url.rstrip("/"), self._key(provider, params, default), _location(url), {})

    def _key(self, provider: str, params: Mapping[str, Any], default: str) -> str:
        key = params.get("api_key")
        if key is None:
            return default
        if isinstance(key, str) and key.startswith("os.environ/"):
            return key.removeprefix("os.environ/")
        variable = default or f"{_WORD.sub('_', provider).upper()}_KEY"
        if key not in ("", "none", "dummy", "fake-key", "sk-1234"):
            self.left_out.append(f"A key of {provider} that is written out: put it into the variable {variable}.")
            return variable
        return ""

    def _known(self, provider: str, found: _Place, name: str, params: Mapping[str, Any]) -> _Place:
        key = (found.kind, found.url, found.key_env, found.location, *sorted(found.options.values()))
        if key not in self.places:
            taken = {place.name for place in self.places.values()}
            stem = _WORD.sub("-", provider)
            if found.kind in ("bedrock", "vertex"):
                stem = f"{stem}-{found.location}"
            names = (stem if at == 1 else f"{stem}-{at}" for at in range(1, len(taken) + 2))
            found.name = next(one for one in names if one not in taken)
            self.places[key] = found
        place = self.places[key]
        most = params.get("max_parallel_requests")
        if isinstance(most, int) and most > 0:
            place.max_in_flight = max(most, place.max_in_flight or 0)
        return place


def _written(made: _Made) -> Iterator[str]:
    """The lines of the file."""
    if made.total_s is not None and made.total_s > 0:
        yield from ("[policy]", f'total = "{made.total_s:g}s"', "")
    for place in made.places.values():
        yield from ("[[place]]", f"name = {_text(place.name)}", f"kind = {_text(place.kind)}")
        for key, value in (("url", place.url), ("key_env", place.key_env), ("location", place.location)):
            if value:
                yield f"{key} = {_text(value)}"
        if place.max_in_flight:
            yield f"max_in_flight = {place.max_in_flight}"
        if place.options:
            yield "options = { " + ", ".join(f"{key} = {_text(value)}" for key, value in place.options.items()) + " }"
        for model in place.models.values():
            yield from ("", "[[place.model]]", f"id = {_text(model.upstream)}")
            if model.price:
                yield "price = { " + ", ".join(f"{key} = {usd:g}" for key, usd in model.price.items()) + " }"
        yield ""
    for name, targets in made.routes.items():
        yield from ("[[route]]", f"name = {_text(name)}", f"targets = [{', '.join(map(_text, targets))}]", "")


def _price(params: Mapping[str, Any]) -> dict[str, float]:
    """In US dollars for a million tokens; empty where the prompt's or the answer's is not stated."""
    keys = {
        "prompt": "input_cost_per_token", "completion": "output_cost_per_token",
        "cached_prompt": "cache_read_input_token_cost", "cache_write": "cache_creation_input_token_cost",
    }  # fmt: skip
    found = {name: params[key] * 1e6 for name, key in keys.items() if isinstance(params.get(key), int | float)}
    return found if {"prompt", "completion"} <= found.keys() else {}


def _location(url: str) -> str:
    """This machine, its network, or somewhere in the world."""
    host = urlsplit(url).hostname or ""
    if host in LOOPBACK:
        return "local"
    try:
        return "site" if ipaddress.ip_address(host).is_private else "global"
    except ValueError:
        return "site" if "." not in host or host.endswith((".local", ".lan", ".internal")) else "global"


def _plain(value: Any) -> str:
    """A text that is said here and not in a variable."""
    return value if isinstance(value, str) and not value.startswith("os.environ/") else ""


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)
