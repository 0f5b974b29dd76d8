"""What `generateContent` takes, and how Google refuses what it does not."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

import msgspec

BYPASS = ("skip_thought_signature_validator", "context_engineering_is_the_way_to_go")
_CAMEL = re.compile(r"_([a-z])")
_OPAQUE = frozenset(("args", "response", "parametersJsonSchema", "responseJsonSchema", "parameters", "labels"))
"""Fields whose insides are the caller's own."""
SIGNING = "gemini-3"
"""Models of such a name want the signature of a call back with it."""


class Invalid(Exception):
    """400 INVALID_ARGUMENT, with this message."""


class _Field(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    pass


class FunctionCall(_Field, frozen=True):
    name: str
    args: dict[str, Any] = {}
    id: str = ""


class FunctionResponse(_Field, frozen=True):
    name: str
    response: dict[str, Any]
    id: str = ""


class Part(_Field, frozen=True):
    text: str | None = None
    thought: bool = False
    thought_signature: str | None = None
    function_call: FunctionCall | None = None
    function_response: FunctionResponse | None = None
    inline_data: dict[str, Any] | None = None
    file_data: dict[str, Any] | None = None


class Content(_Field, frozen=True):
    parts: list[Part] = []
    role: str = "user"


class Declaration(_Field, frozen=True):
    name: str
    description: str = ""
    parameters: dict[str, Any] | None = None
    parameters_json_schema: Any = None
    response: dict[str, Any] | None = None
    response_json_schema: Any = None


class Tool(_Field, frozen=True):
    function_declarations: list[Declaration] = []
    google_search: dict[str, Any] | None = None
    code_execution: dict[str, Any] | None = None


class Calling(_Field, frozen=True):
    mode: str = "AUTO"
    allowed_function_names: list[str] = []


class ToolConfig(_Field, frozen=True):
    function_calling_config: Calling = Calling()


class Thinking(_Field, frozen=True):
    include_thoughts: bool = False
    thinking_budget: int | None = None
    thinking_level: str | None = None


class Config(_Field, frozen=True):
    temperature: float | None = None
    top_p: float | None = None
    top_k: float | None = None
    candidate_count: int | None = None
    max_output_tokens: int | None = None
    stop_sequences: list[str] = []
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    response_logprobs: bool | None = None
    logprobs: int | None = None
    response_mime_type: str = "text/plain"
    response_schema: dict[str, Any] | None = None
    response_json_schema: Any = None
    response_modalities: list[str] | None = None
    thinking_config: Thinking = Thinking()


class Asked(_Field, frozen=True):
    contents: list[Content]
    system_instruction: Content | None = None
    tools: list[Tool] = []
    tool_config: ToolConfig | None = None
    safety_settings: list[dict[str, str]] = []
    generation_config: Config = Config()
    labels: dict[str, str] = {}
    cached_content: str | None = None
    service_tier: str | None = None

    @property
    def last_text(self) -> str:
        return "".join(part.text or "" for part in self.contents[-1].parts)

    @property
    def num_tokens(self) -> int:
        """Words of everything that is read."""
        whole = [*self.contents, *([self.system_instruction] if self.system_instruction else [])]
        return sum(len((part.text or "").split()) for content in whole for part in content.parts)


def read(raw: bytes, model: str, *, is_vertex: bool) -> Asked:
    """The request.  Raises Invalid."""
    try:
        asked = msgspec.convert(_camel(msgspec.json.decode(raw)), Asked)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise Invalid(f"Invalid JSON payload received. {error}") from None
    if not asked.contents:
        raise Invalid("* GenerateContentRequest.contents: contents is not specified")
    if is_vertex and asked.service_tier is not None and asked.service_tier not in ("priority", "flex", "standard"):
        raise Invalid(f"Unknown service tier {asked.service_tier}")
    if not is_vertex and asked.labels:
        raise Invalid('Invalid JSON payload received. Unknown name "labels": Cannot find field.')
    _check_turns(asked.contents)
    _check_config(asked.generation_config)
    _check_calling(asked)
    if model.startswith(SIGNING):
        _check_signatures(asked.contents)
    return asked


def _camel(value: Any) -> Any:
    """Field names in the first of the two spellings that Google takes (google-genai writes both)."""
    if isinstance(value, list):
        return [_camel(item) for item in value]
    if not isinstance(value, dict):
        return value
    named = {_CAMEL.sub(lambda m: m[1].upper(), name): inner for name, inner in value.items()}
    return {name: inner if name in _OPAQUE else _camel(inner) for name, inner in named.items()}


def _check_turns(contents: list[Content]) -> None:
    waiting = 0
    for content in contents:
        if content.role not in ("user", "model"):
            raise Invalid(f"Please use a valid role: user, model. Got {content.role}")
        if not content.parts:
            raise Invalid("Unable to submit request because it must have at least one part.")
        for part in content.parts:
            kinds = (part.text, part.function_call, part.function_response, part.inline_data, part.file_data)
            if sum(kind is not None for kind in kinds) != 1:
                raise Invalid("* contents.parts.data: required oneof field 'data' must have one initialized field")
        num_results = sum(part.function_response is not None for part in content.parts)
        if num_results != waiting:
            raise Invalid(
                "Please ensure that the number of function response parts is equal to the number of function call "
                "parts of the function call turn."
            )
        waiting = sum(part.function_call is not None for part in content.parts)


def _check_config(config: Config) -> None:
    if config.temperature is not None and not 0.0 <= config.temperature <= 2.0:
        raise Invalid(f"temperature must be in the range [0.0, 2.0], got {config.temperature}")
    if len(config.stop_sequences) > 5:
        raise Invalid("The number of stop sequences must be at most 5.")
    if config.max_output_tokens is not None and config.max_output_tokens < 1:
        raise Invalid("max_output_tokens must be positive.")
    has_schema = config.response_schema is not None or config.response_json_schema is not None
    if has_schema and config.response_mime_type != "application/json":
        raise Invalid("A response schema needs the response mime type application/json.")
    if config.response_schema is not None and config.response_json_schema is not None:
        raise Invalid("Only one of response_schema and response_json_schema may be set.")
    thinking = config.thinking_config
    if thinking.thinking_budget is not None and thinking.thinking_level is not None:
        raise Invalid("You can only set only one of thinking budget and thinking level.")


def _check_calling(asked: Asked) -> None:
    calling = asked.tool_config.function_calling_config if asked.tool_config else Calling()
    if calling.mode not in ("AUTO", "ANY", "NONE", "VALIDATED"):
        raise Invalid(f"Invalid value at 'tool_config.function_calling_config.mode': {calling.mode}")
    known = {declared.name for tool in asked.tools for declared in tool.function_declarations}
    if calling.allowed_function_names and calling.mode not in ("ANY", "VALIDATED"):
        raise Invalid("Allowed function names are for the modes ANY and VALIDATED.")
    for name in calling.allowed_function_names:
        if name not in known:
            raise Invalid(f"Function {name} is allowed, and not declared.")


def _check_signatures(contents: list[Content]) -> None:
    """Of the current turn: what came after the user last spoke in words."""
    spoken = [n for n, c in enumerate(contents) if c.role == "user" and any(part.text is not None for part in c.parts)]
    for content in contents[spoken[-1] if spoken else 0 :]:
        first = next((part for part in content.parts if part.function_call is not None), None)
        if first is not None and not _is_signed(first.thought_signature):
            assert first.function_call is not None
            raise Invalid(
                f"Function call `{first.function_call.name}` in the contents is missing a thought_signature."
            )


def signature_of(name: str) -> str:
    """What this cloud signs a call of that name with."""
    return base64.b64encode(f"signed:{name}".encode()).decode()


def _is_signed(signature: str | None) -> bool:
    if signature in BYPASS:
        return True
    try:
        # clients write either alphabet of base64
        raw = (signature or "").replace("-", "+").replace("_", "/")
        return base64.b64decode(raw, validate=True).startswith(b"signed:")
    except binascii.Error:
        return False
