"""Servers that speak OpenAI's chat API, and what each of them takes beyond it.

Nothing that a request asks for is left out in silence: what a server does not take is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from .place import ABILITIES, Ability

Metrics: TypeAlias = Literal["vllm", "sglang", "llamacpp"]


@dataclass(frozen=True, slots=True)
class Flavour:
    """One server's manners.

    abilities      what a request may need there, unless the operator says otherwise
    fields         names there of what OpenAI's API has not; absent: refused
    grammars       kinds of `Format` that it takes
    limit          what it calls the most tokens of a chat's answer
    prefill        members of the body that make it go on with a last message of the assistant's; None: it does not
    repeats        it says the words that it goes on with once more
    metrics        whose names its `/metrics` uses; None: it has none
    """

    name: str
    abilities: tuple[Ability, ...]
    fields: Mapping[str, str]
    grammars: frozenset[str] = frozenset({"json_schema"})
    limit: str = "max_tokens"
    prefill: Mapping[str, bool] | None = None
    repeats: bool = False
    metrics: Metrics | None = None


def _same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


_GO_ON = {"continue_final_message": True, "add_generation_prompt": False}
_SAMPLING = _same("top_k", "min_p", "repetition_penalty", "ignore_eos", "stop_token_ids")
_TEMPLATE = _same("chat_template_kwargs", "add_generation_prompt")
FLAVOURS = {
    flavour.name: flavour
    for flavour in (
        Flavour("openai", ("tools", "schema", "logprobs", "several"), {}, limit="max_completion_tokens"),
        Flavour("bedrock", ("tools", "schema"), {}),  # what else it takes is not known here: an operator may say so
        Flavour("plain", ("tools", "schema", "logprobs", "several", "text"), {}),
        Flavour(
            "vllm", ABILITIES, _SAMPLING | _TEMPLATE | _same("add_special_tokens"),
            grammars=frozenset({"json_schema", "regex", "lark"}), prefill=_GO_ON, metrics="vllm",
        ),
        Flavour(
            "sglang", ("tools", "schema", "logprobs", "several", "ids", "text", "prefill"),
            _SAMPLING | _same("chat_template_kwargs"), prefill=_GO_ON, metrics="sglang",
        ),
        Flavour(
            "llamacpp", ("tools", "schema", "logprobs", "ids", "text", "prefill"),
            _same("top_k", "min_p", "ignore_eos", "chat_template_kwargs") | {"repetition_penalty": "repeat_penalty"},
            prefill={}, repeats=True, metrics="llamacpp",
        ),
        Flavour("ollama", ("tools", "schema", "text"), {}),
        Flavour(
            "isochrone", tuple(ability for ability in ABILITIES if ability != "prefill"),
            _SAMPLING | _TEMPLATE | _same("add_special_tokens"),
            grammars=frozenset({"json_schema", "regex", "lark"}), metrics="vllm",
        ),
    )
}  # fmt: skip
OWNERS = {
    "vllm": "vllm", "sglang": "sglang", "llamacpp": "llamacpp", "library": "ollama", "isochrone": "isochrone",
    "openai": "openai", "system": "openai",
}  # fmt: skip
"""What `/v1/models` says in owned_by -> whose server that is."""
