"""The fields of Ollama's API: their types and bounds, and what becomes of each of them.

Every documented field is honoured, accepted because ignoring it changes nothing, or refused by name; so is every
option.  Defaults are Ollama's own, so that a program sees here what it is used to.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta

from isochrone.errors import BadRequest
from isochrone.places.place import Format, Sampling

from .fields import NUM_TOP_MAX, BodyParser, Penalty, Refusals, Stop, given

TEMPERATURE, TOP_K, TOP_P = 0.8, 40, 0.9
"""What Ollama draws with when it is not told."""
LATEST = ":latest"
_AT_START = "Remove it: how the model runs is set when this server starts."


class Function(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """index  of the call among its neighbours; their order says it too"""

    name: str
    arguments: dict[str, Any] = {}
    index: int | None = None
    description: str | None = None


class Call(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    function: Function
    id: str | None = None
    type: Literal["function"] | None = None


class Turn(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """tool_name, tool_call_id  which call a tool answers; without them, the first that has no answer yet"""

    role: Literal["system", "user", "assistant", "tool"]
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[Call] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None
    images: Annotated[list[Any], Meta(max_length=0)] | None = None


class Declared(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    name: Annotated[str, Meta(min_length=1, max_length=128)]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class OfferedTool(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    function: Declared
    type: Literal["function"] | None = None


class Options(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """num_predict below 1 asks for as many as the context leaves.  num_ctx  at most what this server holds."""

    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_k: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    num_predict: Annotated[int, Meta(ge=-2, le=2**31 - 1)] | None = None
    num_ctx: Annotated[int, Meta(ge=1)] | None = None
    stop: Stop | Annotated[list[Stop], Meta(max_length=16)] | None = None
    repeat_penalty: Annotated[float, Meta(gt=0, le=10)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repeat_last_n: Annotated[int, Meta(ge=-1)] | None = None
    num_keep: int | None = None
    mirostat_tau: float | None = None
    mirostat_eta: float | None = None
    draft_num_predict: Any = UNSET
    embedding_only: Any = UNSET
    f16_kv: Any = UNSET
    logits_all: Any = UNSET
    low_vram: Any = UNSET
    main_gpu: Any = UNSET
    mirostat: Any = UNSET
    num_batch: Any = UNSET
    num_gpu: Any = UNSET
    num_thread: Any = UNSET
    numa: Any = UNSET
    penalize_newline: Any = UNSET
    tfs_z: Any = UNSET
    typical_p: Any = UNSET
    use_mlock: Any = UNSET
    use_mmap: Any = UNSET
    vocab_only: Any = UNSET

    def sampling(self) -> Sampling:
        without = self.repeat_last_n == 0  # penalties then look at no token
        return Sampling(
            temperature=given(self.temperature, TEMPERATURE),
            top_k=max(0, given(self.top_k, TOP_K)),
            top_p=given(self.top_p, TOP_P),
            min_p=self.min_p or 0.0,
            repetition_penalty=1.0 if without else given(self.repeat_penalty, 1.0),
            presence_penalty=0.0 if without else self.presence_penalty or 0.0,
            frequency_penalty=0.0 if without else self.frequency_penalty or 0.0,
            seed=None if self.seed is None or self.seed < 0 else self.seed,
        )

    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    def max_tokens(self) -> int | None:
        return self.num_predict if self.num_predict is not None and self.num_predict > 0 else None

    def has_penalties(self) -> bool:
        return given(self.repeat_penalty, 1.0) != 1.0 or bool(self.presence_penalty or self.frequency_penalty)


class CommonFields(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What chat and generate share."""

    model: Annotated[str, Meta(min_length=1)]
    stream: bool | None = None
    format: Literal["", "json"] | dict[str, Any] | None = None
    options: Options | None = None
    keep_alive: int | float | str | None = None
    think: bool | Literal["low", "medium", "high", "max"] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=NUM_TOP_MAX)] | None = None
    budget: Any = UNSET
    truncate: Any = UNSET
    shift: Any = UNSET

    def is_streamed(self) -> bool:
        return self.stream is not False

    def format_of(self) -> Format | None:
        if not self.format:
            return None
        schema = {"type": "object"} if isinstance(self.format, str) else self.format
        return Format("json_schema", msgspec.json.encode(schema).decode())

    def template_variables(self) -> dict[str, Any]:
        """The names under which templates ask how much to think."""
        match self.think:
            case None:
                return {}
            case bool(wanted):
                return {"enable_thinking": wanted}
            case effort:
                return {"enable_thinking": True, "reasoning_effort": "high" if effort == "max" else effort}


class ChatFields(CommonFields, kw_only=True, forbid_unknown_fields=True):
    """Ollama's body for `/api/chat`."""

    messages: list[Turn] | None = None
    tools: list[OfferedTool] | None = None


class GenerateFields(CommonFields, kw_only=True, forbid_unknown_fields=True):
    """Ollama's body for `/api/generate`.  raw  the prompt goes to the model as it is, without the template"""

    prompt: str | None = None
    system: str | None = None
    raw: bool | None = None
    suffix: Any = UNSET
    template: Any = UNSET
    context: Any = UNSET
    images: Any = UNSET
    width: Any = UNSET
    height: Any = UNSET
    steps: Any = UNSET


class ShowFields(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    model: str | None = None
    name: str | None = None
    verbose: bool | None = None
    system: Annotated[str, Meta(max_length=0)] | None = None
    template: Annotated[str, Meta(max_length=0)] | None = None
    options: Annotated[dict[str, Any], Meta(max_length=0)] | None = None


REFUSED: Refusals = {
    "truncate": ((False,), "Remove it: a prompt that is too long is refused here, and never cut."),
    "shift": ((False,), "Remove it: an answer ends here where the context does."),
}
GENERATE_REFUSED: Refusals = {
    **REFUSED,
    "context": (([],), "Send the conversation to /api/chat instead."),
    "height": ((0,), "Remove it: the models here draw no images."),
    "images": (([],), "Remove it: the models here read text only."),
    "steps": ((0,), "Remove it: the models here draw no images."),
    "suffix": (("",), "Remove it: the models here only continue a text."),
    "template": (("",), "Remove it, or send raw and the prompt as the model should read it."),
    "width": ((0,), "Remove it: the models here draw no images."),
}
OPTIONS_REFUSED: Refusals = {
    "draft_num_predict": ((), "Remove it: how far to guess ahead is chosen by measurement."),
    "embedding_only": ((False,), _AT_START),
    "f16_kv": ((), _AT_START),
    "logits_all": ((False,), _AT_START),
    "low_vram": ((False,), _AT_START),
    "main_gpu": ((0,), _AT_START),
    "mirostat": ((0,), "Remove it, and use top_p, top_k or min_p."),
    "num_batch": ((), _AT_START),
    "num_gpu": ((0, -1), _AT_START),
    "num_thread": ((0,), _AT_START),
    "numa": ((False,), _AT_START),
    "penalize_newline": ((True,), "Remove it: penalties treat a line break like any token."),
    "tfs_z": ((1, 0), "Remove it, and use min_p."),
    "typical_p": ((1, 0), "Remove it, and use min_p."),
    "use_mlock": ((False,), _AT_START),
    "use_mmap": ((True,), _AT_START),
    "vocab_only": ((False,), _AT_START),
}
ACCEPTED: dict[str, str] = {
    "keep_alive": "a model is loaded for as long as this server runs; 0, which asks to unload it, is refused",
}
OPTIONS_ACCEPTED: dict[str, str] = {
    "mirostat_eta": "has a meaning only with mirostat, which is refused",
    "mirostat_tau": "has a meaning only with mirostat, which is refused",
    "num_keep": "says what survives when a context is shifted, and none is here",
}
HONOURED: dict[str, str] = {
    "budget": "ours: what the caller can wait for, as in `Isochrone-Budget`",
    "format": "`json` (an object) or a JSON schema",
    "logprobs": "of each token, in `logprobs`",
    "model": "one that `/api/tags` lists, with or without `:latest`",
    "options": "see below",
    "stream": "true unless sent false; lines of JSON",
    "think": "goes to the model's template, levels included; thoughts come in `thinking`",
    "top_logprobs": "0 to 20; needs `logprobs`",
}
CHAT_HONOURED: dict[str, str] = {
    **HONOURED,
    "messages": "`content`, `thinking`, `tool_calls`, `tool_name`, `tool_call_id`; `images` are refused; none at all "
    "asks whether the model is loaded",
    "tools": "of type `function`; calls come whole, with their arguments as an object",
}
GENERATE_HONOURED: dict[str, str] = {
    **HONOURED,
    "prompt": "laid out by the model's template as a user's message; an empty one asks whether the model is loaded",
    "raw": "the prompt goes to the model as it is",
    "system": "a system message before it; refused with `raw`",
}
OPTIONS_HONOURED: dict[str, str] = {
    "frequency_penalty": "-2 to 2",
    "min_p": "0 to 1",
    "num_ctx": "at most the context that this server holds, which is what a request gets",
    "num_predict": "below 1: as many as the context leaves",
    "presence_penalty": "-2 to 2",
    "repeat_last_n": "-1 (the whole text) or 0 (no penalties); others only without penalties",
    "repeat_penalty": "1 unless given",
    "seed": "below 0: a fresh one",
    "stop": "a text or up to 16",
    "temperature": f"{TEMPERATURE} unless given",
    "top_k": f"{TOP_K} unless given",
    "top_p": f"{TOP_P} unless given",
}
CHAT_PARSER = BodyParser(ChatFields, REFUSED)
GENERATE_PARSER = BodyParser(GenerateFields, GENERATE_REFUSED)
SHOW_PARSER = BodyParser(ShowFields)
_DURATION = re.compile(r"-?(\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+|-?\d+(\.\d+)?")


def expect_honoured(fields: CommonFields, context: int | None) -> None:
    """Raises BadRequest for values that cannot be honoured, by name.  context  that this server holds, in tokens"""
    _expect_loaded(fields.keep_alive)
    if fields.top_logprobs and not fields.logprobs:
        raise BadRequest(
            "top_logprobs is given, but logprobs is not true.", fix="Set logprobs, or remove it.", param="top_logprobs"
        )
    options = fields.options or Options()
    for name, (neutral, instead) in OPTIONS_REFUSED.items():
        value = getattr(options, name)
        if value is not UNSET and value is not None and not any(_is_same(value, one) for one in neutral):
            raise BadRequest(f"options.{name} is not supported by this server.", fix=instead, param=f"options.{name}")
    if given(options.repeat_last_n, -1) > 0 and options.has_penalties():
        raise BadRequest(
            f"options.repeat_last_n is {options.repeat_last_n}, but penalties here look at the whole text.",
            fix="Send -1, or 0 for no penalties.", param="options.repeat_last_n",
        )  # fmt: skip
    if options.num_ctx and context is not None and options.num_ctx > context:
        raise BadRequest(
            f"options.num_ctx is {options.num_ctx}, and this server holds {context} tokens.",
            fix=f"Send at most {context}, or serve the model with a larger --context.", param="options.num_ctx",
        )  # fmt: skip


def _is_same(value: Any, neutral: Any) -> bool:
    return isinstance(value, bool) == isinstance(neutral, bool) and value == neutral


def _expect_loaded(keep_alive: float | str | None) -> None:
    if isinstance(keep_alive, str) and not _DURATION.fullmatch(keep_alive):
        raise BadRequest(
            f"keep_alive is {keep_alive[:40]!r}, which is no duration.", fix="Send one like 5m.", param="keep_alive"
        )
    text = str(keep_alive)
    if keep_alive is not None and not re.search("[1-9]", text):
        raise BadRequest(
            f"keep_alive is {text}, which asks to unload the model, and it is served for as long as this server runs.",
            fix="Remove it, or stop the server.", param="keep_alive",
        )  # fmt: skip
