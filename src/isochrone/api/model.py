"""The Python face: a model in this process, asked with text, answering with text.

    with isochrone.load("smollm2-135m") as model:
        print(model.complete("The capital of France is", max_tokens=8).text)
        for piece in model.stream([{"role": "user", "content": "Name three rivers."}]):
            print(piece, end="", flush=True)

The engine is the server's, run by whoever reads the answer.  A model is used from one thread at a time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from isochrone.config import Settings
    from isochrone.engine.local import LocalEngine
    from isochrone.engine.records import Submit
    from isochrone.runtime.step import Runtime
    from isochrone.text import Tokenizer

Prompt: TypeAlias = "str | Sequence[Mapping[str, str]]"
"""A text to continue, or a conversation: messages with `role` and `content`."""


@dataclass(frozen=True, slots=True)
class Completion:
    """A finished answer.

    finish_reason  stop: the model or a stop text ended it.  length: max_tokens or the context.  deadline: the time
    ttft_s, total_s  from asking to the first token and to the end, seconds
    num_cached     prompt tokens whose keys and values were there already
    """

    text: str
    finish_reason: str
    num_prompt: int
    num_cached: int
    num_tokens: int
    ttft_s: float
    total_s: float

    @property
    def tokens_per_s(self) -> float:
        """Rate after the first token; 0 when there was no second one."""
        rest_s = self.total_s - self.ttft_s
        return (self.num_tokens - 1) / rest_s if self.num_tokens > 1 and rest_s > 0 else 0.0

    @property
    def summary(self) -> str:
        """One line for people: what it took."""
        from isochrone.units import format_duration

        rate = f", {self.tokens_per_s:.0f} tokens/s" if self.tokens_per_s else ""
        first = format_duration(self.ttft_s)
        return f"first token after {first}, {self.num_tokens} tokens{rate} ({self.finish_reason})"


def load(model: str | os.PathLike[str], **settings: str | int | float | bool) -> Model:
    """Load a model into this process.

    model     a short name, a path or a hub id
    settings  those of `isochrone config`, by key: threads=2, kv_memory="256 MB", weights="int8"
    Raises NotFound, BadModel, BadConfig, OutOfMemory, Unsupported.
    """
    from isochrone import config

    given = {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in settings.items()}
    return open_model(os.fspath(model), config.resolve(given).settings)


def open_model(model: str, settings: Settings) -> Model:
    """`load`, with settings that are resolved already."""
    from isochrone.engine.local import LocalEngine

    from .loading import load_model, loading_of
    from .reading import locate, read_tokenizer

    path = locate(model, offline=settings.offline)
    runtime = load_model(**loading_of(path, settings))
    tokenizer = read_tokenizer(path)
    return Model(model, tokenizer, LocalEngine(runtime, load_tokens=lambda: tokenizer), runtime)


class Stream(Iterator[str]):
    """An answer as it comes.  `read()` takes the rest and gives the whole; `close()` gives the slot back early."""

    def __init__(self, pieces: Iterator[str | Completion]) -> None:
        self._pieces = pieces
        self._completion: Completion | None = None

    def __next__(self) -> str:
        if self._completion is None:
            for piece in self._pieces:
                if isinstance(piece, str):
                    return piece
                self._completion = piece
        raise StopIteration

    def read(self) -> Completion:
        """The whole answer, once it is complete."""
        for _ in self:
            pass
        assert self._completion is not None, "the stream was closed before its end"
        return self._completion

    def close(self) -> None:
        """Stop here: the sequence leaves the engine before its next step."""
        close = getattr(self._pieces, "close", None)
        if close is not None:
            close()


class Model:
    """A loaded model.  Made by `load`; use it as a context, or call `close`."""

    def __init__(self, name: str, tokenizer: Tokenizer, engine: LocalEngine, runtime: Runtime) -> None:
        self.name = name
        self._tokenizer, self._engine, self._runtime = tokenizer, engine, runtime

    @property
    def context(self) -> int:
        """Most tokens of prompt and answer together."""
        return self._engine.info.num_sequence_tokens_max

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the workers and give the memory back."""
        self._runtime.close()

    def complete(
        self, prompt: Prompt, *, max_tokens: int | None = None, temperature: float = 0.0, top_k: int = 0,
        top_p: float = 1.0, min_p: float = 0.0, seed: int | None = None, stop: Sequence[str] = (),
        within_s: float | None = None,
    ) -> Completion:  # fmt: skip
        """Answer, and return when the answer is whole; arguments as for `stream`."""
        return self.stream(
            prompt, max_tokens=max_tokens, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, seed=seed,
            stop=stop, within_s=within_s,
        ).read()  # fmt: skip

    def stream(
        self, prompt: Prompt, *, max_tokens: int | None = None, temperature: float = 0.0, top_k: int = 0,
        top_p: float = 1.0, min_p: float = 0.0, seed: int | None = None, stop: Sequence[str] = (),
        within_s: float | None = None,
    ) -> Stream:  # fmt: skip
        """Answer piece by piece.

        temperature  0 takes the likeliest token each time
        stop         texts that end the answer and are not part of it
        within_s     seconds the answer may take; what is there by then is the answer
        Raises BadRequest, ContextTooLong; while reading DeadlineExceeded and SequenceFailed.
        """
        from isochrone.engine.records import SamplingParams, Submit

        now = time.monotonic()
        request = Submit(
            prompt_ids=self._tokens(prompt), max_tokens=max_tokens, eos_ids=self._tokenizer.eos_ids,
            sampling=SamplingParams(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, seed=seed),
            arrived_at=now, total_at=None if within_s is None else now + within_s,
        )  # fmt: skip
        return Stream(self._answer(request, tuple(stop), continuing=isinstance(prompt, str)))

    def _tokens(self, prompt: Prompt) -> list[int]:
        if isinstance(prompt, str):
            return self._tokenizer.encode(prompt)
        from isochrone.errors import BadRequest
        from isochrone.text import ChatTemplate

        if self._tokenizer.chat_template is None:
            raise BadRequest(f"{self.name} has no chat template.", fix="Give a text to continue instead of messages.")
        template = ChatTemplate(self._tokenizer.chat_template, self._tokenizer.named_tokens)
        return self._tokenizer.encode(template.render([dict(m) for m in prompt]), add_special=False)

    def _answer(self, request: Submit, stops: tuple[str, ...], *, continuing: bool) -> Iterator[str | Completion]:
        from isochrone.text import StopStrings, StreamDecoder

        decoder, matcher = StreamDecoder(self._tokenizer, continuing=continuing), StopStrings(stops)
        text, num_tokens, num_cached, first_at, reason = "", 0, 0, 0.0, ""
        with closing(self._engine.submit(request)) as deltas:
            for delta in deltas:
                num_tokens += len(delta.token_ids)
                first_at = first_at or time.monotonic()
                piece, is_stopped = matcher.push(decoder.push(delta.token_ids))
                if delta.timing is not None:
                    num_cached = delta.timing.num_cached
                if delta.finish_reason is not None and not is_stopped:
                    piece += matcher.push(decoder.finish())[0] + matcher.finish()
                text += piece
                reason = "stop" if is_stopped else delta.finish_reason or ""
                if piece:
                    yield piece
                if reason:
                    break
        now = time.monotonic()
        yield Completion(
            text, reason, len(request.prompt_ids), num_cached, num_tokens, first_at - request.arrived_at,
            now - request.arrived_at,
        )  # fmt: skip
