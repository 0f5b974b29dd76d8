"""A test cloud that is Amazon Bedrock: Converse, ConverseStream, CountTokens, chat completions, credentials
that expire.

Credentials are given out as a container's are (`AWS_CONTAINER_CREDENTIALS_FULL_URI`), so that boto3 finds and renews
them by itself; `POST /_control/expire` ends every session.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from email.utils import formatdate
from typing import Any
from urllib.parse import unquote

from aiohttp import web

from . import bedrock_openai
from .app import Cloud, Ended, Event, Thought, Word
from .bedrock_asked import complaint, forced_tool, last_text, num_tokens
from .bedrock_gate import Denied, Gate
from .bedrock_said import Converse, Failed, Stopped
from .bedrock_wire import REFUSALS, said_of
from .script import Answer, Block, Call, Count, Fault, Play, Script, tokens_of

Json = dict[str, Any]

STREAM_TYPE = "application/vnd.amazon.eventstream"


class BedrockCloud(Cloud):
    """One region of Amazon Bedrock, played.

    gate        who may in: `gate.lasting` and `gate.bearer` always may
    downgrades  serve every request in the standard form and tier, whatever it asked for
    now         Unix time, seconds
    """

    def __init__(
        self,
        script: Script = Script(),
        *,
        region: str = "eu-central-1",
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        super().__init__(script, clock=clock, sleep=sleep)
        self._now = now
        self.gate = Gate(region, now)
        self.downgrades = False

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/credentials", self._give_credentials),
            web.post("/_control/expire", self._expire),
            web.post("/model/{rest:.+}", self._model),
            web.post("/openai/v1/chat/completions", self._openai),
        ]

    def describe(self) -> dict[str, Any]:
        lasting = self.gate.lasting
        return {
            "region": self.gate.region,
            "access_key": lasting.access_key,
            "secret_key": lasting.secret_key,
            "bearer": self.gate.bearer,
            "credentials_url": f"{self.url}/credentials",
        }

    async def _give_credentials(self, request: web.Request) -> web.Response:
        issued = self.gate.issue(self.script.credential_s)
        assert issued.expires_at is not None
        expiration = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(issued.expires_at))
        return web.json_response({
            "AccessKeyId": issued.access_key,
            "SecretAccessKey": issued.secret_key,
            "Token": issued.token,
            "Expiration": expiration,
        })  # fmt: skip

    async def _expire(self, request: web.Request) -> web.Response:
        self.gate.expire()
        return web.json_response({})

    async def _model(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        path = request.raw_path.partition("?")[0]
        model, _, action = path.removeprefix("/model/").rpartition("/")
        try:
            body = json.loads(raw or b"{}")
        except ValueError:
            body = None

        async def answer() -> web.StreamResponse:
            try:
                self.gate.check(request.method, request.raw_path, request.headers, raw)
            except Denied as denied:
                return self._refusal(403, denied.kind, denied.message)
            if not isinstance(body, dict):
                return self._refusal(400, "SerializationException", "The body is no JSON object.")
            return await self._answered(request, unquote(model), action, body)

        return await self.handle(request, body, answer)

    async def _openai(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        body = json.loads(raw)

        async def answer() -> web.StreamResponse:
            try:
                self.gate.check(request.method, request.raw_path, request.headers, raw)
            except Denied as denied:
                error = {"message": denied.message, "type": denied.kind, "param": None, "code": denied.kind}
                headers = {**self._marks(), "x-amzn-ErrorType": denied.kind}
                return web.json_response({"error": error}, status=403, headers=headers)
            return await self._completed(request, body)

        return await self.handle(request, body, answer)

    async def _completed(self, request: web.Request, body: Json) -> web.StreamResponse:
        play = self.next_play(body.get("model", ""))
        if isinstance(play, Fault):
            status, said = bedrock_openai.refusal(play)
            return web.json_response(said, status=status, headers=self._marks())
        if isinstance(play, Block):
            play = Answer(finish="filter")
        asked = bedrock_openai.last_text(body)
        parts = self.perform(play, asked, len(tokens_of(asked)))
        if not body.get("stream"):
            status, said = await bedrock_openai.whole(body, parts)
            return web.json_response(said, status=status, headers=self._marks())
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", **self._marks()})
        await response.prepare(request)
        async for data in bedrock_openai.chunks(body, parts):
            await response.write(data)
        await response.write_eof()
        return response

    async def _answered(self, request: web.Request, model: str, action: str, body: Json) -> web.StreamResponse:
        if action == "count-tokens":
            asked = body.get("input", {}).get("converse", {})
            return web.json_response({"inputTokens": num_tokens(asked)})
        if action not in ("converse", "converse-stream"):
            return self._refusal(404, "UnknownOperationException", "")
        play: Play | None = complaint(body) or self.next_play(model)
        if isinstance(play, Fault):
            status, kind, _ = REFUSALS[play.kind]
            return self._refusal(status, kind, said_of(play), play.retry_after_s)
        if isinstance(play, Block):
            play = Answer(finish="filter", block_reason=play.reason)
        assert isinstance(play, Answer)
        heard = Converse(body, self._bounded(play, body), self.clock, self.downgrades)
        if action == "converse":
            return await self._whole(heard)
        return await self._streamed(request, heard)

    async def _bounded(self, answer: Answer, body: Json) -> AsyncIterator[Event | Stopped]:
        """The answer's events, ended by maxTokens or a stop sequence where one is met."""
        config = body.get("inferenceConfig", {})
        left, said = config.get("maxTokens"), ""
        num_prompt = num_tokens(body)
        num_said = 0
        async for part in self.perform(_by_tool(answer, body), last_text(body), num_prompt):
            if isinstance(part, Word | Thought) and left is not None and num_said >= left:
                yield Ended("length", answer.count or Count(num_prompt, num_said))
                return
            num_said += isinstance(part, Word | Thought)
            if isinstance(part, Word):
                hit = _first_hit(said + part.text, config.get("stopSequences", ()))
                if hit is not None:
                    at, sequence = hit
                    yield Word((said + part.text)[len(said) : at])
                    yield Stopped(sequence, answer.count or Count(num_prompt, num_said))
                    return
                said += part.text
            yield part

    async def _streamed(self, request: web.Request, heard: Converse) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": STREAM_TYPE, **self._marks()})
        await response.prepare(request)
        async for data in heard.events():
            await response.write(data)
        await response.write_eof()
        return response

    async def _whole(self, heard: Converse) -> web.StreamResponse:
        try:
            return web.json_response(await heard.whole(), headers=self._marks())
        except Failed as failed:
            status, kind, _ = REFUSALS[failed.fault.kind]
            return self._refusal(status, kind, said_of(failed.fault), failed.fault.retry_after_s)

    def _refusal(self, status: int, kind: str, said: str, retry_after_s: float | None = None) -> web.Response:
        headers = {**self._marks(), "x-amzn-ErrorType": f"{kind}:http://internal.amazon.com/coral/com.amazon.bedrock/"}
        if retry_after_s is not None:
            headers["Retry-After"] = f"{retry_after_s:g}"
        return web.json_response({"message": said}, status=status, headers=headers)

    def _marks(self) -> dict[str, str]:
        return {"x-amzn-RequestId": str(uuid.uuid4()), "Date": formatdate(self._now(), usegmt=True)}


def _by_tool(answer: Answer, body: Json) -> Answer:
    """A model that must call a tool says there what it would have said: the JSON object that the script wrote."""
    name = forced_tool(body)
    if name is None or answer.calls:
        return answer
    try:
        value = json.loads(answer.text)
    except ValueError:
        return answer
    if not isinstance(value, dict):
        return answer
    return Answer(
        "", answer.thought, (Call(name, value),), answer.count, None, answer.block_reason, answer.first_token_s,
        answer.token_s, answer.cut_after, answer.stall_after, answer.fault_after, answer.fault,
    )  # fmt: skip


def _first_hit(text: str, sequences: list[str]) -> tuple[int, str] | None:
    hits = [(text.index(sequence), sequence) for sequence in sequences if sequence in text]
    return min(hits) if hits else None
