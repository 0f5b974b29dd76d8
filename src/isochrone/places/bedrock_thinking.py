"""How much a model thinks at Bedrock, and the thoughts that it wants back with its calls.

What cannot be said of either is refused: a caller who asked for no thoughts would pay for them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, TypeAlias

from isochrone.errors import Unsupported

from .bedrock_settings import BedrockModel
from .place import Chat

Json = dict[str, Any]
Recall: TypeAlias = Callable[[str], tuple[Json, ...]]
"""From the id of a call to the blocks of thought that came before it; none where they are not known."""

_WORDS = {"output": ("low", "medium", "high", "xhigh", "max"), "field": ("low", "medium", "high"), "no": ()}
"""Efforts by the way they are told.  `output`: as Converse's own model of the service lists them for
outputConfig.effort (botocore 1.44); `field`: the three that gpt-oss's chat format knows."""
_THINKING = ("thinking", "reasoning_config", "reasoningConfig")
"""Members of an operator's `fields` that turn thoughts on, for Claude and for Nova."""


def recall_nothing(id: str) -> tuple[Json, ...]:
    """For a place that remembers no calls."""
    return ()


def effort_of(chat: Chat, model: BedrockModel) -> str | None:
    """How much to think, in Converse's word; None: what is asked is what the model does anyway.

    `minimal` is told as `low`, the least that there is.  Raises Unsupported for what this model cannot be told.
    """
    said = dict(chat.template_variables)
    effort, thinks = said.pop("reasoning_effort", None), said.pop("enable_thinking", None)
    if said:
        names = ", ".join(sorted(said))
        refuse(f"has no words for {names} of a template", "chat_template_kwargs", "State it as a field of the model")
    way = model.known.effort
    if effort == "none" or thinks is False:
        if model.known.thinks or is_told_to_think(model):
            refuse(f"cannot keep {model.name} from thinking", "reasoning_effort")
        return None
    if effort is None:
        if thinks and way == "no" and not (model.known.thinks or is_told_to_think(model)):
            refuse(f"cannot make {model.name} think", "reasoning_effort", "State `thinking` in the model's fields")
        return None
    word = "low" if effort == "minimal" else effort
    if word not in _WORDS[way]:
        takes = ", ".join(_WORDS[way]) or "none"
        refuse(f"cannot tell {model.name} to think with the effort {effort}; it takes {takes}", "reasoning_effort")
    return str(word)


def is_told_to_think(model: BedrockModel) -> bool:
    """The operator's fields turn its thoughts on."""
    return any(_is_on(model.fields.get(name)) for name in _THINKING)


def expect_thoughts(turns: list[Json], model: BedrockModel) -> None:
    """Refuse to go on after calls whose thoughts are lost, where Claude wants to see them again.

    Another place made those calls, or it was too long ago.  Raises Unsupported.
    """
    thinking = model.fields.get("thinking")
    is_demanded = isinstance(thinking, dict) and thinking.get("type") == "enabled"
    if not is_demanded or not turns or "toolResult" not in turns[-1]["content"][0]:
        return
    asked = next((turn for turn in reversed(turns) if turn["role"] == "assistant"), None)
    if asked is not None and "reasoningContent" not in asked["content"][0]:
        refuse(f"no longer knows what {model.name} thought before these calls", "messages", "Ask the question anew")


def refuse(what: str, param: str, fix: str = "Leave it out, or ask another place") -> NoReturn:
    """Another place may be able to, so this is no fault of the request's."""
    raise Unsupported(f"Amazon Bedrock {what} ({param}).", fix=f"{fix}.")


def _is_on(field: Any) -> bool:
    return isinstance(field, dict) and field.get("type") in ("enabled", "adaptive")
