"""How much a Gemini model thinks: as the caller says, or else as the operator does.

What a model cannot be told is refused: a caller who asked for no thoughts would pay for them.
"""

from __future__ import annotations

from typing import Any, NoReturn

from isochrone.errors import Unsupported

from .gemini_settings import GeminiModel
from .place import Chat

Json = dict[str, Any]
_BUDGETS = {"minimal": 1024, "low": 1024, "medium": 8192, "high": 24576}
"""Tokens of thought for an effort: the 1K, 8K and 24K to which Google maps low, medium and high where it speaks
OpenAI's protocol, by its announcement of April 2025 as others quote it; 24,576 is also 2.5 Flash's most."""
_HIGHEST = ("xhigh", "max")
"""Efforts of other vendors above `high`, which is the highest that all models of Google's have."""


def thinking_of(chat: Chat, model: GeminiModel) -> Json | None:
    """The thinkingConfig; None for a model that does not think.  Thoughts are shown wherever there may be some.

    A budget is raised to the least that the model takes; a level is the least that allows for a budget.
    Raises Unsupported.
    """
    wanted, thinks = _wanted(chat)
    skills = model.known
    if skills.thinking == "no":
        if thinks or wanted not in (None, "none"):
            refuse(f"does not know {model.name} to think", "reasoning_effort")
        return None
    if wanted is None:
        is_contrary = thinks and model.thinking in (0, "none")
        wanted = None if is_contrary else model.thinking
    if wanted in (0, "none") and not skills.can_rest:
        refuse(f"cannot keep {model.name} from thinking", "reasoning_effort", "Ask for minimal, or ask another place")
    if wanted is None:
        return {"includeThoughts": True}
    if skills.thinking == "level":
        return {"includeThoughts": True} | ({} if wanted == -1 else {"thinkingLevel": _level(wanted)})
    budget = _budget(wanted, skills.least_thought)
    return {"includeThoughts": budget != 0, "thinkingBudget": budget}


def refuse(what: str, param: str, fix: str = "Leave it out, or ask another place") -> NoReturn:
    """Another place may be able to, so this is no fault of the request's."""
    raise Unsupported(f"Google's API {what} ({param}).", fix=f"{fix}.")


def _wanted(chat: Chat) -> tuple[int | str | None, bool]:
    """(tokens or effort, None where not said; whether thoughts are asked for at all)"""
    said = dict(chat.template_variables)
    names = ("reasoning_effort", "thinking_budget", "enable_thinking")
    effort, budget, thinks = (said.pop(name, None) for name in names)
    if said:
        refuse(f"has no words for {', '.join(sorted(said))} of a template", "chat_template_kwargs")
    if thinks is False:
        return "none", False
    return (budget if effort is None else effort), bool(thinks)


def _level(wanted: int | str) -> str:
    if isinstance(wanted, str):
        return "MINIMAL" if wanted == "none" else _known(wanted).upper()
    return next((level.upper() for level, tokens in _BUDGETS.items() if wanted <= tokens), "HIGH")


def _budget(wanted: int | str, least: int) -> int:
    if isinstance(wanted, str):
        wanted = 0 if wanted == "none" else _BUDGETS[_known(wanted)]
    return wanted if wanted <= 0 else max(least, wanted)  # 0: not at all; -1: as much as the model sees fit


def _known(effort: str) -> str:
    word = "high" if effort.lower() in _HIGHEST else effort.lower()
    if word not in _BUDGETS:
        refuse(f"knows no effort {effort!r}", "reasoning_effort", f"Ask for {', '.join(_BUDGETS)}, or none")
    return word
