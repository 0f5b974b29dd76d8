"""The place that is this machine: text on this side of the pipe, tokens on the engine's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import Literal, Protocol, TypeVar

from msgspec.structs import replace

from isochrone.budget import Deadline
from isochrone.engine import records
from isochrone.errors import DeadlineExceeded, IsochroneError, Unreachable

from .accounts import Accounts
from .answer import AnswerText, score
from .continuing import Continuation, begun_ids
from .place import Chat, Delta, Details, Load, Model, Pace, Price, Prompt, Prompted, Request, Scored, Status
from .reader import Read, Reader, num_chars
from .submitting import expect_known, to_submit

NUM_CHARS_INLINE = 2_000
GRACE_S = 1.0
T = TypeVar("T")


class Engine(Protocol):
    """What this place needs of an engine: its process's client, or one that runs in a thread."""

    @property
    def stats(self) -> records.EngineStats: ...

    @property
    def num_restarts(self) -> int: ...

    @property
    def is_up(self) -> bool:
        """False while a dead engine is being brought back."""
        ...

    @property
    def failure(self) -> IsochroneError | None:
        """Why no engine will come (back); None while one may."""
        ...

    async def start(self) -> records.EngineInfo: ...

    def submit(self, submit: records.Submit) -> AsyncGenerator[records.Delta, None]:
        """The request's deltas; closing it cancels the request.  Raises what the engine refuses."""
        ...

    def cancel(self, submit: records.Submit, sample: int) -> None:
        """Stop one sample of a request."""
        ...

    async def close(self) -> None: ...


class Local:
    """A model on this machine.

    model       its public id
    load_reader reads tokenizer and template; called once, in a thread, while the engine loads the weights
    created_at  Unix time of its file, seconds
    model_hash  computes that of its files, for receipts; called in a thread, and expected to remember
    grace_s     how long past a stated deadline the engine, which enforces it, is waited for before it counts as hung
    """

    def __init__(
        self,
        model: str,
        engine: Engine,
        load_reader: Callable[[], Reader],
        *,
        created_at: int = 0,
        grace_s: float = GRACE_S,
        model_hash: Callable[[], str] = lambda: "",
    ) -> None:
        self._model, self._created_at, self._model_hash = model, created_at, model_hash
        self._grace_s = grace_s
        self._engine, self._load_reader = engine, load_reader
        self._reader: Reader | None = None
        self._info: records.EngineInfo | None = None
        self._same_as = ""
        self._identifying: asyncio.Task[str] | None = None
        self._settled = asyncio.Event()
        self._error: IsochroneError | None = None
        self._aside = ThreadPoolExecutor(1, "isochrone-text")

    @property
    def name(self) -> str:
        return "local"

    @property
    def price(self) -> Price:
        return Price()

    @property
    def location(self) -> str:
        return "local"

    @property
    def continues(self) -> Literal["exactly", "roughly", "no"]:
        return "exactly"

    async def start(self) -> None:
        """Load tokenizer and model, side by side.  Raises what made that impossible."""
        text = asyncio.ensure_future(self._load_text())
        try:
            self._info = await self._engine.start()  # its process starts before this first gives way
            await text
        except IsochroneError as error:
            self._error = error
            raise
        finally:
            text.cancel()
            self._settled.set()

    async def _load_text(self) -> None:
        self._reader = await self._run_aside(self._load_reader)
        await self._run_aside(self._reader.tokenizer.warm)

    def status(self) -> Status:
        stats = self._engine.stats
        load = Load(
            num_waiting=stats.num_waiting,
            num_running=stats.num_running,
            num_blocks_free=stats.num_pages_free,
            num_blocks_cached=stats.num_pages_cached,
            num_blocks_held=stats.num_pages_held,
            num_restarts=self._engine.num_restarts,
            num_block_tokens=self._info.page_tokens if self._info else 0,
            num_slots=self._info.num_sequences_max if self._info else 0,
        )
        context = self._info.num_sequence_tokens_max if self._info else None
        details = self._reader.details if self._reader else Details()
        models = (Model(self._model, context, self._created_at, details=details, same_as=self._same_as),)
        error = self._error or self._engine.failure
        if error is not None:
            return Status("failed", models, load, str(error))
        if self._info is None:
            return Status("loading", models, load)
        pace = Pace(*stats.pace) if stats.pace else None
        return Status("ready" if self._engine.is_up else "restarting", models, load, pace=pace)

    def identify(self) -> asyncio.Task[str]:
        """Read the model's files once, in the background: then `status` says which models elsewhere are the same."""
        if self._identifying is None:
            self._identifying = asyncio.create_task(self._identify(), name="identify-model")
        return self._identifying

    async def _identify(self) -> str:
        _, info = await self._loaded(None)
        model_hash = await asyncio.to_thread(self._model_hash)
        self._same_as = same_as(model_hash, info) if model_hash else ""
        return self._same_as

    async def tokenize(self, prompt: Prompt) -> list[int]:
        reader, _ = await self._loaded(None)
        return (await self._read(reader, prompt)).ids

    async def detokenize(self, ids: list[int]) -> str:
        reader, _ = await self._loaded(None)
        expect_known(ids, reader.tokenizer.num_tokens, "tokens")
        return reader.tokenizer.decode(ids, skip_special=False)

    async def complete(self, request: Request, deadline: Deadline) -> AsyncGenerator[Prompted | Delta, None]:
        """See `Place.complete`."""
        reader, info = await self._loaded(deadline if request.dated else None)
        read = await self._read(reader, request.prompt)
        begun = begun_ids(request, read, reader)
        if begun:
            expect_known(begun, info.vocab_size, "partial")
            request = replace(request, echo=False)  # whoever began the answer has given the prompt back
        submit = to_submit(request, read, deadline, info, reader)
        answers = [_answer(index, request, read, reader) for index in range(request.n)]
        again = Continuation(answers[0], begun, request.partial) if begun and request.partial else None
        if again is not None and again.is_over:
            yield Prompted(len(read.ids))
            yield again.end
            return
        submit = submit if again is None else again.resumed(submit)
        model_hash = await self._run_aside(self._model_hash) if request.with_receipt else ""
        accounts = Accounts(request, submit, info, model_hash, begun)
        prompt = _PromptScores(reader, request, read.ids)
        early: list[records.Delta] = []  # of answers that began before the prompt's last score came
        async with aclosing(self._engine.submit(submit)) as steps:
            async for step in _until(steps, deadline.total_at + self._grace_s if request.dated else None):
                early.append(step)
                if not prompt.is_said:
                    prompted = prompt.push(step)
                    if prompted is None:
                        continue
                    yield prompted
                for step in early:
                    step = again.rest(step) if again is not None else step
                    answer = answers[step.sample]
                    if answer.is_done or not (step.token_ids or step.finish_reason):
                        continue
                    delta = accounts.settle(step, answer.push(step))
                    if request.with_ids:
                        delta = replace(delta, ids=tuple(step.token_ids))
                    if delta.finish_reason and not step.finish_reason:
                        self._engine.cancel(submit, step.sample)  # a stop string: the engine knows only tokens
                    yield delta
                early.clear()
                if all(answer.is_done for answer in answers):
                    return

    async def close(self) -> None:
        if self._identifying is not None:
            self._identifying.cancel()
            await asyncio.gather(self._identifying, return_exceptions=True)
        await self._engine.close()
        self._aside.shutdown(wait=False, cancel_futures=True)

    async def _loaded(self, deadline: Deadline | None) -> tuple[Reader, records.EngineInfo]:
        if not self._settled.is_set():
            try:
                async with asyncio.timeout(deadline.remaining_s(time.monotonic()) if deadline else None):
                    await self._settled.wait()
            except TimeoutError:
                raise DeadlineExceeded(
                    "The model was still being loaded when the deadline passed.", fix="Ask again when /ready says so."
                ) from None
        if self._error is not None:
            raise Unreachable(f"The model could not be loaded: {self._error.message}", fix=self._error.fix)
        if self._reader is None or self._info is None:
            raise Unreachable("The model is not loaded.", fix="Start the server again, and see its log.")
        return self._reader, self._info

    async def _read(self, reader: Reader, prompt: Prompt) -> Read:
        if num_chars(prompt) <= NUM_CHARS_INLINE:
            return reader.read(prompt)
        return await self._run_aside(lambda: reader.read(prompt))

    async def _run_aside(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._aside, work)


def _answer(index: int, request: Request, read: Read, reader: Reader) -> AnswerText:
    return AnswerText(
        reader.tokenizer,
        index,
        request.stops,
        continuing=not isinstance(request.prompt, Chat),
        with_scores=request.num_top is not None,
        parser=reader.parser(request, read),
        shown_ids=reader.shown_ids if isinstance(request.prompt, Chat) else frozenset(),
        id_chars=reader.dialect.tools.id_chars,
    )


def same_as(model_hash: str, info: records.EngineInfo) -> str:
    """The name of models that draw the same tokens: of the same files, run by the same plan with the same cache."""
    import hashlib  # not needed to start

    return hashlib.sha256(f"{model_hash} {info.plan_hash} {info.kv_type}".encode()).hexdigest()[:32]


class _PromptScores:
    """Collects what is to be said of the prompt; `push` gives it once it is complete."""

    def __init__(self, reader: Reader, request: Request, ids: list[int]) -> None:
        self._reader, self._request, self._ids = reader, request, ids
        self._is_scored = request.echo and request.num_top is not None
        self._logprobs: list[float] = []
        self._top: list[records.TopLogprobs] = []
        self.is_said = False

    def push(self, step: records.Delta) -> Prompted | None:
        self._logprobs += step.prompt_logprobs
        self._top += step.prompt_top
        if self._is_scored and len(self._logprobs) < len(self._ids) - 1:
            return None
        self.is_said = True
        if not self._request.echo:
            return Prompted(len(self._ids))
        text = self._reader.text(self._request.prompt, self._ids)
        return Prompted(len(self._ids), text, tuple(self._scores()) if self._is_scored else ())

    def _scores(self) -> list[Scored]:
        tokenizer = self._reader.tokenizer
        scores = [score(tokenizer, self._ids[0], None, [])]
        for at, token_id in enumerate(self._ids[1:]):
            scores.append(score(tokenizer, token_id, self._logprobs[at], self._top[at] if self._top else []))
        return scores


async def _until(
    steps: AsyncGenerator[records.Delta, None], limit_at: float | None
) -> AsyncGenerator[records.Delta, None]:
    """The steps, for as long as they may take.  Raises DeadlineExceeded when the engine does not keep to it."""
    while True:
        try:
            async with asyncio.timeout(None if limit_at is None else max(0.0, limit_at - time.monotonic())):
                step = await anext(steps)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise DeadlineExceeded(
                "The engine gave no token in time.", fix="Allow more time (x-deadline-ms), or ask another place."
            ) from None
        yield step
