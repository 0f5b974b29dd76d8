"""The place that is Amazon Bedrock: Converse and ConverseStream, signed and read by ourselves."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar
from urllib.parse import quote

import msgspec

from isochrone.budget import Deadline
from isochrone.errors import DeadlineExceeded, MissingExtra, NotFound, Unreachable, Unsupported

from .bedrock_answer import ConverseAnswer
from .bedrock_auth import AwsAuth, endpoint_of, region_of
from .bedrock_faults import fault
from .bedrock_frames import Frame, Frames
from .bedrock_profiles import regions_of
from .bedrock_request import to_converse
from .bedrock_settings import BedrockModel, BedrockSettings, SchemaWay
from .estimate import num_prompt_tokens
from .place import Ability, Delta, Load, Model, Price, Prompt, Prompted, Request, Status
from .remembered import Remembered
from .spec import PlaceSpec

if TYPE_CHECKING:
    import aiohttp

    from .openai_place import OpenAIPlace

KEEP_ALIVE_S = 30.0
"""How long Amazon keeps a silent connection is not known here; a short time makes a closed one a rare find."""
DRAIN_S = 0.02
"""For the end of a stream whose last event has come, so that its connection can be used again."""
REFUSAL_BYTES_MAX = 64 << 10

T = TypeVar("T")
Part: TypeAlias = list[Frame] | dict[str, Any]
"""What one read of the answer brought: messages of the stream, or the whole of an answer in one piece."""


class _DeadlineReached(Exception):
    """The caller's time is over."""


class Bedrock:
    """A region of Amazon Bedrock.

    auth     None: as the settings and the environment say
    clock    monotonic, seconds;  environ: of the process
    num_downgraded  answers for which a faster form or tier was asked than was given (Amazon serves such a request in
                    the standard form when the quota of the other is used up)
    """

    def __init__(
        self,
        name: str,
        settings: BedrockSettings,
        *,
        auth: AwsAuth | None = None,
        clock: Callable[[], float] = time.monotonic,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        _expect_aiohttp()
        environ = os.environ if environ is None else environ
        self._name, self._settings, self._clock = name, settings, clock
        self._region = region_of(settings.region, settings.profile, environ)
        self._endpoint = (settings.endpoint or endpoint_of(self._region, environ)).rstrip("/")
        self._auth = auth or AwsAuth(self._region, key=settings.key, profile=settings.profile, environ=environ)
        self._models = {model.id: model for model in settings.models}
        self._thoughts: Remembered[tuple[str, str], tuple[dict[str, Any], ...]] = Remembered(settings.remembers)
        self._session: aiohttp.ClientSession | None = None
        self._refusal = ""
        self.num_in_flight = 0
        self.num_downgraded = 0

    @property
    def name(self) -> str:
        return self._name

    @property
    def price(self) -> Price:
        return self._settings.price

    @property
    def location(self) -> str:
        return self._region

    @property
    def continues(self) -> Literal["exactly", "roughly", "no"]:
        return "roughly" if any(model.known.prefill for model in self._models.values()) else "no"

    def regions(self, model: str) -> tuple[str, ...]:
        """Where Amazon may run a model: more than one region for what crosses them.  Raises NotFound."""
        known = self._model(model)
        return known.regions or regions_of(known.name, self._region)

    def schema_way(self, model: str) -> SchemaWay:
        """How answers of a model are held to a JSON schema.  Raises NotFound."""
        return self._model(model).known.schema

    def status(self) -> Status:
        models = tuple(_as_model(model) for model in self._models.values())
        return Status("ready", models, Load(num_running=self.num_in_flight), self._refusal)

    async def complete(self, request: Request, deadline: Deadline) -> AsyncGenerator[Prompted | Delta, None]:
        """See `Place.complete`."""
        model = self._model(request.model)
        thoughts = self._thoughts
        asked = to_converse(request, model, self._settings, lambda id: thoughts.get((model.name, id)) or ())
        body = msgspec.json.encode(asked)
        answer = ConverseAnswer(request, model, lambda id, signed: thoughts.put((model.name, id), signed))
        limit_at = deadline.total_at if request.dated else None
        is_prompted = False
        self.num_in_flight += 1
        response: aiohttp.ClientResponse | None = None
        try:
            response = await self._waited(self._asked(model, body), limit_at)
            parts = _parts(response, model)
            while await self._waited(_take_next(parts, answer), limit_at):
                if not is_prompted:
                    is_prompted = True
                    yield Prompted(num_prompt_tokens(request))
                delta = answer.take()
                if delta is not None:
                    yield delta
            last = answer.finish()
            if not is_prompted:
                yield Prompted(num_prompt_tokens(request))
            self._note_served(answer, model)
            yield last
        except _DeadlineReached:
            if not answer.has_said:
                raise DeadlineExceeded(
                    f"{model.name} at Amazon Bedrock gave no token in time.",
                    fix="Allow more time, or ask another place.",
                ) from None
            yield Delta(0, "", 0, finish_reason="length", ended_by="deadline")
        finally:
            self.num_in_flight -= 1
            if response is not None:
                response.close()  # hangs up, unless the answer is read to its end

    async def tokenize(self, prompt: Prompt) -> list[int]:
        raise Unsupported("Amazon Bedrock does not say which tokens a text becomes.", fix="Ask a place of your own.")

    async def detokenize(self, ids: list[int]) -> str:
        raise Unsupported("Amazon Bedrock does not say what its tokens stand for.", fix="Ask a place of your own.")

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _model(self, id: str) -> BedrockModel:
        model = self._models.get(id)
        if model is None:
            raise NotFound(f"The place {self._name} has no model {id}.", fix=f"It has: {', '.join(self._models)}.")
        return model

    async def _asked(self, model: BedrockModel, body: bytes) -> aiohttp.ClientResponse:
        """The answer's head.  Raises what Amazon's refusal stands for."""
        action = "converse-stream" if model.streams else "converse"
        url = f"{self._endpoint}/model/{quote(model.name, safe='-._~')}/{action}"
        has_tried = False
        while True:
            response = await self._sent(url, body)
            if response.status == 200:
                self._refusal = ""
                return response
            error_type, message = await _refusal(response)
            date = response.headers.get("Date")
            if not has_tried and await self._auth.recovers(error_type, message, date):
                has_tried = True
                continue
            error = fault(
                error_type,
                message,
                status=response.status,
                model=model.name,
                retry_after_s=_seconds(response.headers.get("Retry-After")),
            )
            if error.code == "place_refused":
                self._refusal = error.message
            raise error

    async def _sent(self, url: str, body: bytes) -> aiohttp.ClientResponse:
        from yarl import URL

        headers = {"Content-Type": "application/json", "Accept": "application/vnd.amazon.eventstream, application/json"}
        headers |= await self._auth.headers("POST", url, headers, body)
        return await self._connected().post(URL(url, encoded=True), data=body, headers=headers, allow_redirects=False)

    def _connected(self) -> aiohttp.ClientSession:
        if self._session is None:
            import aiohttp

            settings = self._settings
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=settings.num_connections_max, keepalive_timeout=KEEP_ALIVE_S),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=settings.connect_s),
                trust_env=True,  # the machine's proxies, as boto3 takes them
            )
        return self._session

    async def _waited(self, work: Awaitable[T], limit_at: float | None) -> T:
        """The work's result.  Raises _DeadlineReached at the limit, Unreachable for silence and broken connections."""
        import aiohttp

        silence_s = self._settings.silence_s
        left_s = silence_s if limit_at is None else max(0.0, limit_at - self._clock())
        try:
            async with asyncio.timeout(min(left_s, silence_s)):
                return await work
        except (aiohttp.ClientError, OSError) as error:
            if isinstance(error, TimeoutError) and not isinstance(error, aiohttp.ClientError):
                if left_s < silence_s:
                    raise _DeadlineReached from None
                what = f"said nothing for {silence_s:g} s"
            else:
                what = f"cannot be talked to ({type(error).__name__}: {error})"
            raise Unreachable(
                f"Amazon Bedrock in {self._region} {what}.", fix="Ask another place, or see the way to it."
            ) from error

    def _note_served(self, answer: ConverseAnswer, model: BedrockModel) -> None:
        latency, tier = answer.served.get("latency"), answer.served.get("tier")
        if (model.latency and latency and latency != model.latency) or (model.tier and tier and tier != model.tier):
            self.num_downgraded += 1


def from_spec(spec: PlaceSpec) -> Bedrock | OpenAIPlace:
    """The place that a fleet file describes; `api = "openai"` is Bedrock's other face.

    Raises BadConfig, MissingExtra.
    """
    from . import bedrock_openai
    from .bedrock_spec import settings_of

    if bedrock_openai.is_meant(spec):
        return bedrock_openai.place_of(spec)
    return Bedrock(spec.name, settings_of(spec))


async def _take_next(parts: AsyncGenerator[Part, None], answer: ConverseAnswer) -> bool:
    """Let the answer take in what comes next; False when all of it has come.  Raises what an exception stands for."""
    if answer.is_done:
        return False
    part = await anext(parts, None)
    if part is None:
        return False
    if isinstance(part, dict):
        answer.push_whole(part)
    else:
        for frame in part:
            answer.push(frame)
    return True


async def _parts(response: aiohttp.ClientResponse, model: BedrockModel) -> AsyncGenerator[Part, None]:
    if not model.streams:
        yield msgspec.json.decode(await response.read(), type=dict[str, Any])
        return
    frames = Frames()
    async for data in response.content.iter_any():
        complete = frames.push(data)
        if complete and complete[-1].headers.get(":event-type") == "metadata":
            await _drain(response)
        yield complete


async def _drain(response: aiohttp.ClientResponse) -> None:
    try:
        async with asyncio.timeout(DRAIN_S):
            await response.content.readany()
    except TimeoutError:
        return  # the connection is closed instead


async def _refusal(response: aiohttp.ClientResponse) -> tuple[str, str]:
    """(type of the exception, message)"""
    raw = await response.content.read(REFUSAL_BYTES_MAX)
    response.release()
    try:
        body = msgspec.json.decode(raw)
    except msgspec.DecodeError:
        body = None
    if not isinstance(body, dict):
        return response.headers.get("x-amzn-ErrorType", ""), raw[:500].decode("utf-8", "replace")
    error_type = response.headers.get("x-amzn-ErrorType") or body.get("__type") or body.get("code") or ""
    return str(error_type), str(body.get("message") or body.get("Message") or "")


def _seconds(text: str | None) -> float | None:
    try:
        return None if text is None else max(0.0, float(text))
    except ValueError:
        return None


def _as_model(model: BedrockModel) -> Model:
    skills = model.known
    abilities: list[Ability] = []
    if skills.tools:
        abilities.append("tools")
    if skills.schema != "no":
        abilities.append("schema")
    if skills.prefill:
        abilities.append("prefill")
    return Model(
        model.id,
        model.context,
        0,
        owner="amazon-bedrock",
        abilities=tuple(abilities) if model.abilities is None else model.abilities,
        price=model.price,
        quality=model.quality,
    )


def _expect_aiohttp() -> None:
    if importlib.util.find_spec("aiohttp") is None:
        raise MissingExtra(
            "Amazon Bedrock needs aiohttp, which is not installed.", fix="pip install 'isochrone[bedrock]'"
        )
