"""The fields that OpenAI's chat and completions bodies share, their bounds, and how they become a `Request`.

Every documented field is honoured, accepted because ignoring it changes nothing, or refused by name.  A field that
nobody documents is refused too: a misspelt `temprature` must not pass for an answer at the default.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import UNSET, Meta

from isochrone.errors import BadRequest
from isochrone.places.place import Sampling

from .openai_tools import StructuredOutputs

Penalty = Annotated[float, Meta(ge=-2, le=2)]
TokenId = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Bias = Annotated[float, Meta(ge=-100, le=100)]
Stop = Annotated[str, Meta(min_length=1, max_length=1024)]
Count = Annotated[int, Meta(ge=1, le=128)]
NUM_TOP_MAX = 20
Refusals = Mapping[str, tuple[tuple[Any, ...], str]]
"""Field -> (values that ask for nothing, what to do instead)."""


class StreamOptions(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """include_usage: a last chunk with the usage.  include_obfuscation: pad every chunk to a multiple of 64 bytes,
    so that their sizes on the wire tell less about the words in them (off unless asked for)."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class CommonFields(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Honoured in both bodies; `user` is accepted and not used."""

    model: str
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    logit_bias: Annotated[dict[TokenId, Bias], Meta(max_length=1024)] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: Stop | Annotated[list[Stop], Meta(max_length=16)] | None = None
    n: Count | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None
    # Not OpenAI's; named as vLLM and others name them.
    top_k: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Meta(gt=0, le=10)] | None = None
    stop_token_ids: Annotated[list[TokenId], Meta(max_length=64)] | None = None
    ignore_eos: bool | None = None
    # Ours: what the caller can wait for, see `deadlines`.
    budget: str | dict[str, Any] | None = None

    def sampling(self) -> Sampling:
        return Sampling(
            temperature=given(self.temperature, 1.0),
            top_k=max(0, self.top_k or 0),  # -1 is how vLLM writes off
            top_p=given(self.top_p, 1.0),
            min_p=self.min_p or 0.0,
            repetition_penalty=given(self.repetition_penalty, 1.0),
            presence_penalty=self.presence_penalty or 0.0,
            frequency_penalty=self.frequency_penalty or 0.0,
            logit_bias=self.logit_bias or {},
            seed=self.seed,
        )

    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    def wants_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    def wants_padding(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_obfuscation)


class CacheFields(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """pin  keep the prompt's blocks from eviction, within the key's quota;  ttl: for so many seconds"""

    pin: bool
    ttl: Annotated[float, Meta(gt=0, le=86_400)] = 600.0


class OwnFields(CommonFields, kw_only=True, forbid_unknown_fields=True):
    """Beyond what OpenAI documents.

    drafts  whether tokens may be guessed ahead; the text is the same
    """

    cache: CacheFields | None = None
    drafts: bool | None = None
    structured_outputs: StructuredOutputs | None = None

    def pin_s(self) -> float | None:
        return self.cache.ttl if self.cache and self.cache.pin else None


T = TypeVar("T")
Fields = TypeVar("Fields", bound=CommonFields)


def given(value: T | None, default: T) -> T:
    """A field as sent, or what its absence (or null) means."""
    return default if value is None else value


class BodyParser:
    """Reads bodies of one kind.  refused  the documented fields that this server does not honour"""

    def __init__(self, kind: type[Any], refused: Refusals = {}) -> None:  # noqa: B006 (never written to)
        self._decoder = msgspec.json.Decoder(kind)
        self._refused = refused
        self._names = [name for name in kind.__struct_fields__ if name not in refused]

    def parse(self, body: bytes) -> Any:
        """The body as its type.  Raises BadRequest, which names the field."""
        try:
            fields = self._decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            from .validation import from_validation  # most servers never need it

            raise from_validation(error, self._names) from None
        for name, (neutral, instead) in self._refused.items():
            value = getattr(fields, name)
            if value is not UNSET and value is not None and value not in neutral:
                raise BadRequest(f"{name} is not supported by this server.", fix=instead, param=name)
        if isinstance(fields, CommonFields) and fields.stream_options and not fields.stream:
            raise BadRequest(
                "stream_options is given, but stream is not true.",
                fix="Set stream, or remove it.",
                param="stream_options",
            )
        return fields
