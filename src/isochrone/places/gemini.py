"""The place that is Google's Gemini API, asked by an API key; Vertex AI (`vertex`) speaks the same and inherits it."""

from __future__ import annotations

import math
import os
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, Literal, cast

import msgspec

from isochrone.budget import Deadline
from isochrone.errors import BadConfig, DeadlineExceeded, NotFound, Unsupported

from .estimate import num_prompt_tokens
from .gemini_answer import GeminiAnswer
from .gemini_faults import fault
from .gemini_request import to_generate
from .gemini_settings import FREE, GeminiModel, GeminiSettings, Tier
from .gemini_stream import Events
from .place import Ability, Delta, Load, Model, Price, Prompt, Prompted, Request, Status
from .remembered import Remembered
from .spec import PlaceSpec
from .web import Answer, Web

URL = "https://generativelanguage.googleapis.com"
REFUSAL_BYTES_MAX = 64 << 10
_GIVEN = {"priority": "ON_DEMAND_PRIORITY", "flex": "ON_DEMAND_FLEX"}


class Gemini:
    """Google's Gemini API.

    key    an API key
    clock  monotonic, seconds, as deadlines are told
    num_downgraded  answers for which priority or flex was asked and something else was given
    """

    location = "global"
    is_vertex = False

    def __init__(
        self, name: str, settings: GeminiSettings, *, key: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._name, self._settings, self._key = name, settings, key
        self._models = {model.id: model for model in settings.models}
        self._clock = clock
        self._web = Web(name, self._url(), connect_s=settings.connect_s, silence_s=settings.silence_s, clock=clock)
        self._signatures: Remembered[tuple[str, str], str] = Remembered(settings.remembers)
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
    def continues(self) -> Literal["exactly", "roughly", "no"]:
        return "roughly" if any(model.prefill for model in self._models.values()) else "no"

    def regions(self, model: str) -> tuple[str, ...]:
        """Where Google may run a model; an area's name where that is no single region.  Raises NotFound."""
        return self._model(model).regions or self._regions()

    def status(self) -> Status:
        models = tuple(_as_model(model) for model in self._models.values())
        return Status("ready", models, Load(num_running=self.num_in_flight), self._refusal)

    async def complete(self, request: Request, deadline: Deadline) -> AsyncGenerator[Prompted | Delta, None]:
        """See `Place.complete`."""
        model = self._model(request.model)
        signed = self._signatures
        body = to_generate(
            request, model, self._settings, lambda id: signed.get((model.name, id)), is_vertex=self.is_vertex
        )
        raw = msgspec.json.encode(body | self._further())
        said = GeminiAnswer(model.name, lambda id, signature: signed.put((model.name, id), signature))
        until = deadline.total_at if request.dated else None
        answer: Answer | None = None
        self.num_in_flight += 1
        try:
            answer = await self._asked(model, raw, until)
            yield Prompted(num_prompt_tokens(request))
            events = Events()
            while data := await answer.read():
                for chunk in events.push(data):
                    delta = said.push(chunk)
                    if delta is not None:
                        yield delta
            for chunk in events.finish():
                delta = said.push(chunk)
                if delta is not None:
                    yield delta
            last = said.finish()
            self._note_served(said)
            yield last
        except DeadlineExceeded:
            if not said.has_said:
                raise
            yield Delta(0, "", 0, finish_reason="length", ended_by="deadline")
        finally:
            self.num_in_flight -= 1
            if answer is not None:
                answer.close()  # hangs up, unless the answer is read to its end

    async def tokenize(self, prompt: Prompt) -> list[int]:
        raise Unsupported("Google does not say which tokens a text becomes.", fix="Ask a place of your own.")

    async def detokenize(self, ids: list[int]) -> str:
        raise Unsupported("Google does not say what its tokens stand for.", fix="Ask a place of your own.")

    async def close(self) -> None:
        await self._web.close()

    # --- what Vertex AI does otherwise ---

    def _url(self) -> str:
        return self._settings.url or os.environ.get("GOOGLE_GEMINI_BASE_URL") or URL

    def _regions(self) -> tuple[str, ...]:
        return ("global",)  # its terms name no region

    async def _path(self, model: GeminiModel, until: float | None) -> str:
        return f"/{self._settings.api_version or 'v1beta'}/models/{model.name.removeprefix('models/')}"

    async def _headers(self, until: float | None) -> dict[str, str]:
        """Who we are."""
        return {"x-goog-api-key": self._key}

    async def _recovers(self, refused: Mapping[str, str], until: float | None) -> bool:
        """Whether a refused request is worth another try with other credentials."""
        return False

    def _further(self) -> dict[str, Any]:
        """Fields of the body that hold for every request."""
        tier = self._settings.tier
        return {"serviceTier": tier} if tier else {}

    # --- asking ---

    def _model(self, id: str) -> GeminiModel:
        model = self._models.get(id)
        if model is None:
            raise NotFound(f"The place {self._name} has no model {id}.", fix=f"It has: {', '.join(self._models)}.")
        return model

    async def _asked(self, model: GeminiModel, raw: bytes, until: float | None) -> Answer:
        """The answer's head.  Raises what Google's refusal stands for."""
        has_tried = False
        while True:
            headers = await self._headers(until) | self._left(until)
            path = f"{await self._path(model, until)}:streamGenerateContent?alt=sse"
            answer = await self._web.post(path, raw, until, headers)
            if answer.status == 200:
                self._refusal = ""
                return answer
            refusal = await _refusal(answer)
            retry_after = answer.headers.get("retry-after")
            answer.close()
            if answer.status == 401 and not has_tried and await self._recovers(headers, until):
                has_tried = True
                continue
            error = fault(answer.status, refusal, model=model.name, retry_after=retry_after)
            if error.code == "place_refused":
                self._refusal = error.message
            raise error

    def _left(self, until: float | None) -> dict[str, str]:
        """Google's own end of the work, in whole seconds."""
        left_s = self._left_s(until)
        return {} if left_s is None else {"x-server-timeout": str(max(1, math.ceil(left_s)))}

    def _left_s(self, until: float | None) -> float | None:
        return None if until is None else until - self._clock()

    def _note_served(self, answer: GeminiAnswer) -> None:
        wanted = _GIVEN.get(self._settings.tier or "")
        if wanted and answer.traffic and answer.traffic != wanted:
            self.num_downgraded += 1


async def _refusal(answer: Answer) -> Any:
    raw = await answer.all(REFUSAL_BYTES_MAX)
    try:
        return msgspec.json.decode(raw)
    except msgspec.DecodeError:
        return {"error": raw[:500].decode("utf-8", "replace")}


def _as_model(model: GeminiModel) -> Model:
    abilities: list[Ability] = []
    if model.known.tools:
        abilities.append("tools")
    if model.known.schema != "no":
        abilities.append("schema")
    if model.prefill:
        abilities.append("prefill")
    return Model(
        model.id, model.context, 0, owner="google",
        abilities=tuple(abilities) if model.abilities is None else model.abilities,
        price=model.price, quality=model.quality,
    )  # fmt: skip


# --- the fleet file ---


def from_spec(spec: PlaceSpec) -> Gemini:
    """The place that a fleet file describes.  Raises BadConfig, MissingExtra."""
    settings = settings_of(spec, ())
    key = spec.key() or os.environ.get("GEMINI_API_KEY") or os.environ.get("GOOGLE_API_KEY") or ""
    if not key:
        raise BadConfig(
            f"The place {spec.name} has no API key.", fix="Set GEMINI_API_KEY, or name another variable by key_env."
        )
    return Gemini(spec.name, settings, key=key)


def settings_of(spec: PlaceSpec, others: tuple[str, ...]) -> GeminiSettings:
    """others  options that the caller reads itself"""
    options = dict(spec.options)
    known = ("api_version", "tier", "capacity", "safety", "labels", "thinking", "prefill", "silence_s", *others)
    for name in options:
        if name not in known:
            raise BadConfig(
                f"The place {spec.name} has the option {name}, which {spec.kind} does not know.",
                fix=f"Its options: {', '.join(known)}.",
            )
    tier, capacity = options.get("tier"), options.get("capacity")
    _expect_one_of(spec, "tier", tier, ("standard", "priority", "flex"))
    _expect_one_of(spec, "capacity", capacity, ("dedicated", "shared"))
    return GeminiSettings(
        models=_models_of(spec, options),
        url=spec.url or None,
        api_version=options.get("api_version"),
        price=spec.price or FREE,
        tier=cast("Tier | None", tier),
        capacity=cast("Literal['dedicated', 'shared'] | None", capacity),
        safety=tuple(dict(options.get("safety") or {}).items()),
        labels=dict(options.get("labels") or {}),
        silence_s=float(options.get("silence_s", 120.0)),
    )


def _models_of(spec: PlaceSpec, options: Mapping[str, Any]) -> tuple[GeminiModel, ...]:
    if not spec.models:
        raise BadConfig(f"The place {spec.name} names no models.", fix="Add them, such as gemini-2.5-flash.")
    thinking = options.get("thinking")
    return tuple(
        _with_thinking(
            GeminiModel(
                model.id, model.upstream, context=model.context, price=model.price, quality=model.quality,
                abilities=cast("tuple[Ability, ...] | None", model.abilities), regions=model.regions or spec.regions,
                prefill=bool(options.get("prefill", False)),
            ),
            thinking,
        )
        for model in spec.models
    )  # fmt: skip


def _with_thinking(model: GeminiModel, thinking: int | str | None) -> GeminiModel:
    """The place's word holds for those of its models that think."""
    from dataclasses import replace

    return model if thinking is None or model.known.thinking == "no" else replace(model, thinking=thinking)


def _expect_one_of(spec: PlaceSpec, name: str, value: object, known: tuple[str, ...]) -> None:
    if value is not None and value not in known:
        raise BadConfig(
            f"The place {spec.name} has {name} = {value!r}, which is not known.",
            fix=f"Write one of {', '.join(known)}.",
        )
