"""How one request went, in tokens and seconds, beside what was predicted: fed by its deltas, told to the metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from isochrone.places.place import Delta, Load, Prompted, Usage

from .metrics import Metrics


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a request was expected to take, in the middle of what is likely.

    uncorrected  before what earlier requests taught
    """

    ttft_s: float
    itl_s: float
    uncorrected_ttft_s: float
    uncorrected_itl_s: float


class Predictor(Protocol):
    """Whatever can say what a request will take, and learns from what it took."""

    def predict(self, num_prompt: int, num_cached: int, num_answer: int, load: Load) -> Prediction:
        """load  of the place when the request arrived"""
        ...

    def learn(self, prediction: Prediction, ttft_s: float, itl_s: float | None) -> None:
        """itl_s  None when there was but one token"""
        ...


class Meter:
    """Counts one request.  Instants come from the caller, so that a test needs no clock."""

    def __init__(self, metrics: Metrics, arrived_at: float, load: Load, predictor: Predictor | None = None) -> None:
        self._metrics, self._arrived_at, self._load, self._predictor = metrics, arrived_at, load, predictor
        self._first_at: float | None = None
        self._last_at = 0.0
        self.num_prompt = self.num_cached = self.num_answer = 0

    def push(self, event: Prompted | Delta, now: float) -> None:
        if isinstance(event, Prompted):
            self.num_prompt += event.num_tokens
            return
        if event.finish_reason and event.index == 0:
            self.num_cached += event.num_cached
        self.count(event.num_tokens, now)

    def count(self, num_tokens: int, now: float) -> None:
        """So many tokens of the answer came."""
        if not num_tokens:
            return
        if self._first_at is None:
            self._first_at = now
            self._metrics.ttft_s.observe(now - self._arrived_at)
        else:
            self._metrics.itl_s.observe((now - self._last_at) / num_tokens, num_tokens)
        self._last_at = now
        self.num_answer += num_tokens

    def settle(self, usage: Usage | None) -> int:
        """What the place counted replaces what was counted here.  Returns all tokens of prompt and answer."""
        if usage is not None:
            self.num_prompt, self.num_cached, self.num_answer = usage.num_prompt, usage.num_cached, usage.num_answer
        return self.num_prompt + self.num_answer

    @property
    def counts(self) -> tuple[int, int, int]:
        """Tokens of the prompt, those of them cached, tokens of the answer."""
        return self.num_prompt, self.num_cached, self.num_answer

    def close(self, now: float) -> dict[str, Any]:
        """Book the request, and give its facts for the log."""
        metrics = self._metrics
        metrics.prompt_tokens.add(self.num_prompt)
        metrics.cached_tokens.add(self.num_cached)
        metrics.answer_tokens.add(self.num_answer)
        if self.num_prompt:
            metrics.prompt_sizes.observe(self.num_prompt)
            metrics.answer_sizes.observe(self.num_answer)
        metrics.duration_s.observe(now - self._arrived_at)
        facts: dict[str, Any] = {
            "prompt_tokens": self.num_prompt,
            "cached_tokens": self.num_cached,
            "answer_tokens": self.num_answer,
        }
        if self._first_at is None:
            return facts
        ttft_s, itl_s = self._first_at - self._arrived_at, None
        facts["ttft_s"] = round(ttft_s, 4)
        if self.num_answer > 1:
            itl_s = (self._last_at - self._first_at) / (self.num_answer - 1)
            facts["itl_s"] = round(itl_s, 5)
        return facts | self._compare(ttft_s, itl_s)

    def _compare(self, ttft_s: float, itl_s: float | None) -> dict[str, float]:
        """What was to be expected with what the cache held, which is known only now."""
        if self._predictor is None or not self.num_prompt:
            return {}
        prediction = self._predictor.predict(self.num_prompt, self.num_cached, self.num_answer, self._load)
        self._predictor.learn(prediction, ttft_s, itl_s)
        self._metrics.ttft_error.observe(ttft_s / prediction.ttft_s)
        return {"predicted_ttft_s": round(prediction.ttft_s, 4), "predicted_itl_s": round(prediction.itl_s, 5)}
