"""`/tokenize` and `/detokenize`, in the form that vLLM gave them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from isochrone.errors import BadRequest
from isochrone.places.place import Chat, Prompt, Text

from .call import Call
from .fields import BodyParser, TokenId
from .openai_messages import ChatMessage, messages_of

if TYPE_CHECKING:
    from .app import Gateway


class TokenizeFields(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A prompt, or messages to be laid out by the model's template first."""

    model: str | None = None
    prompt: str | None = None
    messages: Annotated[list[ChatMessage], Meta(min_length=1)] | None = None
    add_special_tokens: bool = True
    add_generation_prompt: bool = True


class DetokenizeFields(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    model: str | None = None
    tokens: list[TokenId]


_TOKENIZE, _DETOKENIZE = BodyParser(TokenizeFields), BodyParser(DetokenizeFields)


async def tokenize(gateway: Gateway, call: Call) -> None:
    fields: TokenizeFields = _TOKENIZE.parse(await call.body())
    model = gateway.expect_model(fields.model) if fields.model else gateway.place.status().models[0]
    ids = await gateway.place.tokenize(_prompt(fields))
    await call.respond(msgspec.json.encode({"count": len(ids), "max_model_len": model.context, "tokens": ids}))


async def detokenize(gateway: Gateway, call: Call) -> None:
    fields: DetokenizeFields = _DETOKENIZE.parse(await call.body())
    if fields.model:
        gateway.expect_model(fields.model)
    text = await gateway.place.detokenize(fields.tokens)
    await call.respond(msgspec.json.encode({"prompt": text}))


def _prompt(fields: TokenizeFields) -> Prompt:
    if (fields.prompt is None) == (fields.messages is None):
        raise BadRequest("Exactly one of prompt and messages is needed.", fix="Send one of them.", param="prompt")
    if fields.messages is not None:
        return Chat(messages_of(fields.messages), fields.add_generation_prompt)
    return Text(fields.prompt or "", fields.add_special_tokens)
