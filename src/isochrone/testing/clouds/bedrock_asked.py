"""What a Converse request says, and what Amazon finds wrong with it."""

from __future__ import annotations

import hashlib
from typing import Any

from .script import Fault, tokens_of

Json = dict[str, Any]

_FIELDS = frozenset({
    "messages", "system", "inferenceConfig", "toolConfig", "guardrailConfig", "projectIdentifier",
    "additionalModelRequestFields", "promptVariables", "additionalModelResponseFieldPaths", "requestMetadata",
    "performanceConfig", "serviceTier", "outputConfig",
})  # fmt: skip


def complaint(body: Json) -> Fault | None:
    """The ValidationException that this body earns; None for a good one."""
    said = _wrong_fields(body) or _wrong_turns(body.get("messages", [])) or _wrong_tools(body) or _wrong_thoughts(body)
    return Fault("invalid", said) if said else None


def last_text(body: Json) -> str:
    """Text of the last message."""
    messages = body.get("messages", [])
    return _text_of(messages[-1]["content"]) if messages else ""


def num_tokens(body: Json) -> int:
    """Words of the whole prompt."""
    texts = [_text_of(message["content"]) for message in body.get("messages", [])]
    return sum(len(tokens_of(text)) for text in [*texts, _text_of(body.get("system", []))])


def forced_tool(body: Json) -> str | None:
    """The tool that the model is made to call by its name."""
    choice = body.get("toolConfig", {}).get("toolChoice", {})
    name: str | None = choice.get("tool", {}).get("name")
    return name


def signature_of(thought: str) -> str:
    """What this cloud signs a thought with."""
    return "signed:" + hashlib.sha256(thought.encode()).hexdigest()[:16]


def _text_of(blocks: list[Json]) -> str:
    texts = []
    for block in blocks:
        if "text" in block:
            texts.append(block["text"])
        elif "toolResult" in block:
            texts.append(_text_of(block["toolResult"]["content"]))
    return " ".join(texts)


def _wrong_fields(body: Json) -> str | None:
    for name in body:
        if name not in _FIELDS:
            return f"Malformed input request: #: extraneous key [{name}] is not permitted, please reformat your input."
    config = body.get("inferenceConfig", {})
    for name, low, high in (("temperature", 0.0, 1.0), ("topP", 0.0, 1.0), ("maxTokens", 1, 10**9)):
        if name in config and not low <= config[name] <= high:
            return f"1 validation error detected: Value at 'inferenceConfig.{name}' must be between {low} and {high}."
    if len(body.get("requestMetadata", {})) > 16:
        return "1 validation error detected: requestMetadata must have at most 16 pairs."
    return None


def _wrong_turns(messages: list[Json]) -> str | None:
    if not messages or messages[0]["role"] != "user":
        return "A conversation must start with a user message. Try again with a conversation that starts so."
    called: set[str] = set()
    for index, message in enumerate(messages):
        if index and message["role"] == messages[index - 1]["role"]:
            return f"messages.{index}: roles must alternate between user and assistant."
        answered = {block["toolResult"]["toolUseId"] for block in message["content"] if "toolResult" in block}
        if answered != called:
            return "Expected toolResult blocks at messages.{} for the toolUse blocks before.".format(index)  # noqa: UP032
        called = {block["toolUse"]["toolUseId"] for block in message["content"] if "toolUse" in block}
        for place, block in enumerate(message["content"]):
            if "text" in block and not block["text"].strip():
                return f"The text field in the ContentBlock object at messages.{index}.content.{place} is blank."
    last = messages[-1]
    if last["role"] == "assistant" and last["content"][-1].get("text", ".")[-1:].isspace():
        return "messages: final assistant content cannot end with trailing whitespace"
    return None


def _wrong_tools(body: Json) -> str | None:
    blocks = [block for message in body["messages"] for block in message["content"]]
    has_calls = any("toolUse" in block or "toolResult" in block for block in blocks)
    if has_calls and "toolConfig" not in body:
        return "The toolConfig field must be defined when using toolUse and toolResult content blocks."
    names = {tool["toolSpec"]["name"] for tool in body.get("toolConfig", {}).get("tools", []) if "toolSpec" in tool}
    forced = forced_tool(body)
    if forced is not None and forced not in names:
        return f"The tool {forced} of toolChoice is not among the tools."
    return None


def _wrong_thoughts(body: Json) -> str | None:
    """Thoughts come back as they were signed; where thinking is on, the turn whose calls are answered begins so."""
    asked = [(at, turn["content"]) for at, turn in enumerate(body["messages"]) if turn["role"] == "assistant"]
    for at, content in asked:
        for place, block in enumerate(content):
            said = block.get("reasoningContent", {}).get("reasoningText")
            if said is not None and said.get("signature") != signature_of(said["text"]):
                return f"messages.{at}.content.{place}: Invalid `signature` in `thinking` block"
    thinking = body.get("additionalModelRequestFields", {}).get("thinking", {})
    goes_on = "toolResult" in body["messages"][-1]["content"][0]
    if thinking.get("type") == "enabled" and goes_on and asked and "reasoningContent" not in asked[-1][1][0]:
        return (
            f"messages.{asked[-1][0]}.content.0.type: Expected `thinking` or `redacted_thinking`, but found another. "
            "When `thinking` is enabled, a final `assistant` message must start with a thinking block."
        )
    return None
