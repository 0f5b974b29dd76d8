"""For models that were taught no form of calls: the tools are described in words, and the grammar does the rest."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from .bare_json import BareJson
from .format import Function

_LEAD = "You have these tools. Each line is one of them, with the JSON schema of its arguments:"
_HOW = (
    'To use a tool, answer with nothing but one line of JSON: {"name": the tool, "arguments": its arguments}. '
    "Its result comes in the next message. When no tool is needed, answer in words."
)


class Forced(BareJson):
    name = "forced"

    def turns(self, turns: Sequence[Mapping[str, Any]], functions: Sequence[Function]) -> list[dict[str, Any]]:
        """The tools in the system turn, earlier calls as what the model wrote, their results as the user's words."""
        out: list[dict[str, Any]] = []
        for turn in turns:
            plain = _plain(turn)
            if out and _is_result(turn) and out[-1]["role"] == "user":
                out[-1]["content"] += f"\n{plain['content']}"
            else:
                out.append(plain)
        return _with_system(out, _described(functions)) if functions else out


def _is_result(turn: Mapping[str, Any]) -> bool:
    return bool(turn["role"] == "tool")


def _plain(turn: Mapping[str, Any]) -> dict[str, Any]:
    if _is_result(turn):
        of = f" of {turn['name']}" if turn.get("name") else ""
        return {"role": "user", "content": f"Result{of}: {turn['content']}"}
    calls = [
        json.dumps({"name": call["function"]["name"], "arguments": call["function"]["arguments"]}, ensure_ascii=False)
        for call in turn.get("tool_calls") or ()
    ]
    kept = {key: value for key, value in turn.items() if key != "tool_calls"}
    return kept | {"content": "\n".join(filter(None, [turn["content"], *calls]))}


def _described(functions: Sequence[Function]) -> str:
    lines = [
        json.dumps(
            {"name": tool.name, "description": tool.description, "parameters": tool.parameters or {}},
            ensure_ascii=False,
        )
        for tool in functions
    ]
    return "\n".join([_LEAD, *lines, _HOW])


def _with_system(turns: list[dict[str, Any]], words: str) -> list[dict[str, Any]]:
    if turns and turns[0]["role"] == "system":
        return [turns[0] | {"content": f"{turns[0]['content']}\n\n{words}"}, *turns[1:]]
    return [{"role": "system", "content": words}, *turns]
