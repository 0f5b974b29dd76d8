"""What an agent says in one task: twenty calls in a row, each with all that was said before it.

    10 edits    system, file ► rename a name, answer with the function ► the function, renamed ► the next rename ► …
    10 actions  system, file, tools ► a call ► its result ► a call ► … ► finish

The file is three functions of HumanEval (MIT licence), the tests that are run are its own.  The conversation is fixed:
what stands in it is the right answer, whatever a model said, so that every server is asked exactly the same.
"""

from __future__ import annotations

import ast
import gzip
import json
import os
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .engines import ROOT

FALLBACK = ROOT / "tests/data/humaneval/ten.jsonl"
NUM_FUNCTIONS = 3
LENGTH_MIN, LENGTH_MAX = 300, 620
PATH = "tools/helpers.py"
EDIT_TOKENS, ACTION_TOKENS = 160, 96
_ASSERTION = re.compile(r"assert candidate\((?P<inputs>.+)\) == (?P<expected>.+?)(?:, .*)?")


@dataclass(frozen=True, slots=True)
class Function:
    """One function, names in it that may be renamed, and (inputs, expected) of its tests."""

    name: str
    source: str
    names: tuple[str, ...]
    cases: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Call:
    """One request: an edit, or with tools an action."""

    kind: str
    messages: tuple[dict[str, Any], ...]
    max_tokens: int
    tools: tuple[dict[str, Any], ...] = ()

    def body(self) -> dict[str, Any]:
        """The request in OpenAI's words."""
        body: dict[str, Any] = {
            "model": "bench", "messages": list(self.messages), "temperature": 0, "max_tokens": self.max_tokens,
        }  # fmt: skip
        if self.tools:
            body |= {"tools": list(self.tools), "tool_choice": "required", "parallel_tool_calls": False}
        return body

    def body_without_tools(self) -> dict[str, Any]:
        """The same for a server that knows no format of calls for this model: described in words, held to a schema."""
        body = self.body()
        if not self.tools:
            return body
        for name in ("tools", "tool_choice", "parallel_tool_calls"):
            del body[name]
        system, *turns = self.messages
        described = "\n".join(json.dumps(tool["function"]) for tool in self.tools)
        told = f'{system["content"]}\n\nTools:\n{described}\n\nAnswer with one call: {{"name": …, "arguments": …}}'
        body["messages"] = [{"role": "system", "content": told}, *map(_in_words, turns)]
        schema = {"anyOf": [_schema_of(tool["function"]) for tool in self.tools]}
        body["response_format"] = {"type": "json_schema", "json_schema": {"name": "call", "schema": schema}}
        return body


def _in_words(message: dict[str, Any]) -> dict[str, Any]:
    match message:
        case {"tool_calls": [{"function": {"name": name, "arguments": arguments}}]}:
            return {"role": "assistant", "content": json.dumps({"name": name, "arguments": json.loads(arguments)})}
        case {"role": "tool", "content": content}:
            return {"role": "user", "content": content}
    return message


def _schema_of(function: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object", "required": ["name", "arguments"], "additionalProperties": False,
        "properties": {"name": {"const": function["name"]}, "arguments": function["parameters"]},
    }  # fmt: skip


def _tool(name: str, description: str, **properties: dict[str, Any]) -> dict[str, Any]:
    schema = {
        "type": "object", "properties": properties, "required": list(properties), "additionalProperties": False,
    }  # fmt: skip
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


def _text(num_characters: int) -> dict[str, Any]:
    return {"type": "string", "maxLength": num_characters}


_FILE = {"type": "string", "enum": [PATH, "tests/test_helpers.py"]}
_LINE = {"type": "integer", "minimum": 1, "maximum": 999}
TOOLS = (
    _tool("read_lines", "Read lines of a file.", path=_FILE, first_line=_LINE, last_line=_LINE),
    _tool("run_function", "Call a function of a file and compare what it returns.",
          path=_FILE, function=_text(40), arguments=_text(80), expected=_text(40)),
    _tool("replace_text", "Replace a text in a file.", path=_FILE, old_text=_text(80), new_text=_text(80),
          is_regex={"type": "boolean"}),
    _tool("finish", "End the task.", status={"enum": ["all_pass", "some_fail"]}, summary=_text(120)),
)  # fmt: skip


def read_functions(data: Path | None = None) -> list[Function]:
    """The functions that fit, of HumanEval in this directory or, without one, of ten that lie here.

    data  the directory of larger data; None: what ISOCHRONE_DATA says
    """
    named = os.environ.get("ISOCHRONE_DATA")
    directory = data or (Path(named) if named else None)
    whole = directory / "humaneval/HumanEval.jsonl.gz" if directory else None
    if whole is not None and whole.exists():
        with gzip.open(whole, "rt") as file:
            lines = file.read().splitlines()
    else:
        lines = FALLBACK.read_text().splitlines()
    found = [function for line in lines if (function := _function(json.loads(line))) is not None]
    assert len(found) >= NUM_FUNCTIONS, "the file of a task has three functions"
    return found


def _function(problem: dict[str, str]) -> Function | None:
    """None: too short, too long, or without names and tests of the kind that a task needs."""
    source = (problem["prompt"] + problem["canonical_solution"]).strip() + "\n"
    if not LENGTH_MIN <= len(source) <= LENGTH_MAX:
        return None
    definitions = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    if len(definitions) != 1:
        return None
    nodes = list(ast.walk(definitions[0]))
    names = [node.arg for node in nodes if isinstance(node, ast.arg)]
    names += [node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    matches = [_ASSERTION.fullmatch(line.strip()) for line in problem["test"].splitlines()]
    cases = tuple(
        (match["inputs"], match["expected"])
        for match in matches
        if match and len(match[0]) < 100  # one short line
    )
    names = [name for name in dict.fromkeys(names) if name != problem["entry_point"]]
    if len(names) < 2 or len(cases) < 3:
        return None
    return Function(problem["entry_point"], source, tuple(names), cases)


def make_task(functions: Sequence[Function], seed: int, num_calls: int = 20) -> list[Call]:
    """The calls of one task, half of them edits; equal seeds give equal tasks."""
    chosen = random.Random(seed).sample(list(functions), NUM_FUNCTIONS)
    edits = _edits(chosen, num_calls // 2)
    return edits + _actions(chosen, num_calls - len(edits))


def _edits(functions: list[Function], num: int) -> list[Call]:
    sources = [function.source for function in functions]
    file = "\n\n".join(sources)
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": f"You edit {PATH}. Answer with the whole changed function and nothing else."},
    ]
    calls = []
    for number in range(num):
        at, turn = number % NUM_FUNCTIONS, number // NUM_FUNCTIONS
        function = functions[at]
        old = function.names[turn % len(function.names)] + "_new" * (turn // len(function.names))
        wish = f"Rename `{old}` to `{old}_new` in `{function.name}`."
        messages.append({"role": "user", "content": wish if number else f"```python\n{file}```\n{wish}"})
        calls.append(Call("edit", tuple(messages), EDIT_TOKENS))
        sources[at] = re.sub(rf"\b{old}\b", f"{old}_new", sources[at])
        messages.append({"role": "assistant", "content": f"```python\n{sources[at]}```"})
    return calls


def _actions(functions: list[Function], num: int) -> list[Call]:
    file = "\n\n".join(function.source for function in functions)
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "You check a file: read it, run each function on examples, then finish."},
        {"role": "user", "content": f"Check {PATH}:\n```python\n{file}```"},
    ]
    calls = []
    for number in range(num):
        calls.append(Call("action", tuple(messages), ACTION_TOKENS, TOOLS))
        function = functions[number % NUM_FUNCTIONS]
        if number % 4 == 0:
            name, given = "read_lines", {"path": PATH, "first_line": 10 * number + 1, "last_line": 10 * number + 10}
            result = "\n".join(file.splitlines()[10 * number % 30 :][:10])
        else:
            inputs, expected = function.cases[number // NUM_FUNCTIONS % len(function.cases)]
            name = "run_function"
            given = {"path": PATH, "function": function.name, "arguments": inputs, "expected": expected}
            result = json.dumps({"function": function.name, "returned": expected, "passed": True})
        called = {"name": name, "arguments": json.dumps(given)}
        messages += [
            {"role": "assistant", "content": "", "tool_calls": [
                {"id": f"call_{number:05}", "type": "function", "function": called}]},
            {"role": "tool", "tool_call_id": f"call_{number:05}", "content": result},
        ]  # fmt: skip
    return calls
