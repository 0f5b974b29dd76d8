"""A test cloud that speaks Vertex AI's and the Gemini API's `generateContent`, whole and as a stream of events."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from aiohttp import web
from msgspec.structs import replace

from .app import Calling, Cloud, Ended, Event, Faulted, Thought, Word
from .script import Answer, Block, Fault, FaultKind, tokens_of
from .vertex_asked import Asked, Invalid, read, signature_of
from .vertex_identity import Identity

Json = dict[str, Any]
_FAULTS: dict[FaultKind, tuple[int, str, str]] = {
    "throttled": (429, "RESOURCE_EXHAUSTED", "Resource exhausted. Please try again later."),
    "unavailable": (503, "UNAVAILABLE", "The service is currently unavailable."),
    "overloaded": (503, "UNAVAILABLE", "The model is overloaded. Please try again later."),
    "not_ready": (503, "UNAVAILABLE", "The model is being loaded. Please try again later."),
    "internal": (500, "INTERNAL", "An internal error has occurred. Please retry."),
    "timeout": (504, "DEADLINE_EXCEEDED", "Deadline expired before operation could complete."),
    "unauthenticated": (401, "UNAUTHENTICATED", "Request had invalid authentication credentials."),
    "denied": (403, "PERMISSION_DENIED", "Permission 'aiplatform.endpoints.predict' denied on resource."),
    "not_found": (404, "NOT_FOUND", "Publisher Model was not found or your project does not have access to it."),
    "invalid": (400, "INVALID_ARGUMENT", "Request contains an invalid argument."),
    "too_long": (400, "INVALID_ARGUMENT",
                 "The input token count (2000000) exceeds the maximum number of tokens allowed (1048576)."),
}  # fmt: skip
_FINISH = {"stop": "STOP", "calls": "STOP", "length": "MAX_TOKENS"}


class VertexCloud(Cloud):
    """Vertex AI (tokens or an API key) and the Gemini API (an API key) under one address."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.identity = Identity(lambda: self.clock(), lambda: self.script.credential_s)

    async def start(self, port: int = 0, host: str = "127.0.0.1") -> str:
        self.identity.url = await super().start(port, host)
        return self.identity.url

    def routes(self) -> list[web.RouteDef]:
        resource = "/{version}/{resource:.*models/[^:]+}"
        return [
            web.post(resource + ":generateContent", self._generate),
            web.post(resource + ":streamGenerateContent", self._generate),
            *self.identity.routes(),
        ]

    def describe(self) -> dict[str, Any]:
        return {"api_key": self.identity.api_key, "service_account": self.identity.service_account()}

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        try:
            body = msgspec.json.decode(raw)
        except msgspec.DecodeError:
            body = None
        return await self.handle(request, body, lambda: self._answer(request, raw))

    async def _answer(self, request: web.Request, raw: bytes) -> web.StreamResponse:
        why_not = self.identity.why_not(request)
        if why_not:
            return _not_let_in(why_not)
        resource = request.match_info["resource"]
        model, is_vertex = resource.rpartition("models/")[2], not resource.startswith("models/")
        play = self.next_play(model)
        if isinstance(play, Fault):
            return _refusal(play)
        try:
            asked = read(raw, model, is_vertex=is_vertex)
        except Invalid as error:
            return _refusal(Fault("invalid", str(error)))
        chunks = self._chunks(play, asked, model, _traffic(request) if is_vertex else "")
        if request.path.endswith(":generateContent"):
            return await _whole(chunks)
        if request.query.get("alt") == "sse":
            return await _streamed(request, chunks)
        return _json([chunk async for chunk in chunks])

    async def _chunks(self, play: Answer | Block, asked: Asked, model: str, traffic: str) -> AsyncIterator[Json]:
        """Each with what all of them say."""
        always = {"modelVersion": model, "responseId": secrets.token_urlsafe(16)}
        num_prompt = asked.num_tokens
        prompt_usage: Json = {"promptTokenCount": num_prompt, "totalTokenCount": num_prompt}
        if traffic:
            prompt_usage["trafficType"] = traffic
        if isinstance(play, Block):
            yield {"promptFeedback": {"blockReason": play.reason or "SAFETY"}, "usageMetadata": prompt_usage, **always}
            return
        shows = asked.generation_config.thinking_config.include_thoughts
        signs = model.startswith("gemini-3")
        async for event in self.perform(_kept(play, asked), asked.last_text, num_prompt):
            chunk = _chunk(event, signs=signs, traffic=traffic)
            if isinstance(event, Thought) and not shows:
                continue
            if "error" not in chunk:
                chunk = {"usageMetadata": prompt_usage, **chunk, **always}
            yield chunk


def _kept(answer: Answer, asked: Asked) -> Answer:
    """As much of the answer as the request allows."""
    limit = asked.generation_config.max_output_tokens
    text = answer.text.replace("{prompt}", asked.last_text)
    for stop in asked.generation_config.stop_sequences:
        text = text.partition(stop)[0]
    tokens = tokens_of(text)
    if limit is None or len(tokens) <= limit:
        return replace(answer, text=text)
    return replace(answer, text="".join(tokens[:limit]), calls=(), finish="length")


def _chunk(event: Event, *, signs: bool, traffic: str) -> Json:
    if isinstance(event, Faulted):
        return {"error": _error(event.fault)}
    if isinstance(event, Ended):
        return _end(event, traffic)
    part: Json
    if isinstance(event, Calling):
        call: Json = {"name": event.call.name, "args": event.call.arguments}
        if event.call.id or signs:
            call["id"] = event.call.id or secrets.token_hex(4)
        part = {"functionCall": call}
        if signs and event.index == 0:
            part["thoughtSignature"] = signature_of(event.call.name)
    elif isinstance(event, Word):
        part = {"text": event.text}
    else:
        part = {"text": event.text, "thought": True}
    return {"candidates": [{"content": {"role": "model", "parts": [part]}, "index": 0}]}


def _end(event: Ended, traffic: str) -> Json:
    count = event.count
    usage = {
        "promptTokenCount": count.num_prompt,
        "candidatesTokenCount": count.num_answer,
        "totalTokenCount": count.num_prompt + count.num_answer + count.num_thought,
    }
    for name, number in (("cachedContentTokenCount", count.num_cached), ("thoughtsTokenCount", count.num_thought)):
        if number:
            usage[name] = number
    finish = event.block_reason or "SAFETY" if event.finish == "filter" else _FINISH[event.finish]
    candidate: Json = {"finishReason": finish, "index": 0}
    if event.finish != "filter":
        candidate["content"] = {"role": "model", "parts": [{"text": ""}]}
    return {"candidates": [candidate], "usageMetadata": usage | ({"trafficType": traffic} if traffic else {})}


def _traffic(request: web.Request) -> str:
    if request.headers.get("X-Vertex-AI-LLM-Request-Type") == "dedicated":
        return "PROVISIONED_THROUGHPUT"
    tier = request.headers.get("X-Vertex-AI-LLM-Shared-Request-Type", "")
    return {"priority": "ON_DEMAND_PRIORITY", "flex": "ON_DEMAND_FLEX"}.get(tier, "ON_DEMAND")


async def _streamed(request: web.Request, chunks: AsyncIterator[Json]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Content-Type-Options": "nosniff"})
    await response.prepare(request)
    async for chunk in chunks:
        await response.write(b"data: " + msgspec.json.encode(chunk) + b"\r\n\r\n")
    await response.write_eof()
    return response


async def _whole(chunks: AsyncIterator[Json]) -> web.Response:
    """One answer of all the parts, neighbours of a kind put together."""
    parts: list[Json] = []
    whole: Json = {}
    async for chunk in chunks:
        if "error" in chunk:
            return _json(chunk, chunk["error"]["code"])
        for part in chunk.get("candidates", [{}])[0].get("content", {}).get("parts", ()):
            if parts and "text" in part and "text" in parts[-1] and part.get("thought") == parts[-1].get("thought"):
                parts[-1] = {**part, "text": parts[-1]["text"] + part["text"]}
            elif part.get("text") != "":
                parts.append(part)
        whole = chunk
    if parts:
        whole["candidates"][0]["content"] = {"role": "model", "parts": parts}
    return _json(whole)


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(
        status=status, body=msgspec.json.encode(value), content_type="application/json", charset="utf-8"
    )


def _error(fault: Fault, details: list[Json] | None = None) -> Json:
    code, status, usual = _FAULTS[fault.kind]
    error: Json = {"code": code, "message": fault.message or usual, "status": status}
    details = list(details or ())
    if fault.retry_after_s is not None:
        delay = f"{fault.retry_after_s:.9f}".rstrip("0").rstrip(".")
        details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{delay}s"})
    return error | ({"details": details} if details else {})


def _refusal(fault: Fault, details: list[Json] | None = None) -> web.Response:
    error = _error(fault, details)
    return _json({"error": error}, error["code"])


def _not_let_in(reason: str) -> web.Response:
    info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "googleapis.com"}
    if reason == "API_KEY_INVALID":
        return _refusal(Fault("invalid", "API key not valid. Please pass a valid API key."), [info])
    return _refusal(Fault("unauthenticated"), [info])
