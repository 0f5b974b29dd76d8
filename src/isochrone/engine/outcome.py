"""What a step will say: deltas and refusals, gathered while it is absorbed."""

from __future__ import annotations

from dataclasses import dataclass

from isochrone.runtime.step import StepResult

from .records import Delta, FinishReason, Refusal, Timing, TopLogprobs
from .sequence import Sequence, Taken


@dataclass(frozen=True, slots=True)
class Rows:
    """Log-probabilities read from some rows, and the alternatives when asked."""

    logprobs: list[float]
    top: list[TopLogprobs]


def read_rows(sequence: Sequence, result: StepResult, begin: int, end: int) -> Rows:
    """What the request wants to know of rows begin .. end."""
    num_top = sequence.request.submit.sampling.top_logprobs
    top: list[TopLogprobs] = []
    if num_top:
        tokens = result.top_tokens[begin:end, :num_top].tolist()
        logprobs = result.top_logprobs[begin:end, :num_top].tolist()
        top = [list(zip(*pair, strict=True)) for pair in zip(tokens, logprobs, strict=True)]
    return Rows(result.logprobs[begin:end].tolist(), top)


class Outcome:
    """Collects until the step's output is made."""

    def __init__(self) -> None:
        self._deltas: list[Delta] = []
        self._refusals: list[Refusal] = []

    @property
    def has_news(self) -> bool:
        return bool(self._deltas or self._refusals)

    def take(self) -> tuple[list[Delta], list[Refusal]]:
        """Everything gathered so far."""
        deltas, refusals = self._deltas, self._refusals
        self._deltas, self._refusals = [], []
        return deltas, refusals

    def tokens(
        self, sequence: Sequence, taken: Taken, result: StepResult, row: int, timing: Timing | None = None
    ) -> None:
        """Several tokens came at once: drawn from this row on, or forced, after those not said before."""
        id, token_ids = sequence.request.submit.id, sequence.unsaid + taken.token_ids
        sequence.unsaid = []
        rows = Rows([], [])
        if sequence.request.submit.sampling.logprobs:
            rows = read_rows(sequence, result, row, row + len(token_ids))
        self._deltas.append(
            Delta(
                id, token_ids, sequence.sample, taken.reason, taken.stop_token_id, logprobs=rows.logprobs, top=rows.top,
                timing=timing,
            )
        )  # fmt: skip

    def token(
        self, sequence: Sequence, token: int, result: StepResult, row: int,
        reason: FinishReason | None = None, timing: Timing | None = None,
    ) -> None:  # fmt: skip
        """A token was drawn; one that ends the answer is named and does not join it."""
        id, sample = sequence.request.submit.id, sequence.sample
        if reason == "stop":
            self._deltas.append(Delta(id, [], sample, reason, token, timing=timing))
            return
        if not sequence.request.submit.sampling.logprobs:
            self._deltas.append(Delta(id, [token], sample, reason, timing=timing))
            return
        rows = read_rows(sequence, result, row, row + 1)
        self._deltas.append(Delta(id, [token], sample, reason, logprobs=rows.logprobs, top=rows.top, timing=timing))

    def score(self, sequence: Sequence, rows: Rows) -> None:
        """The next scores of the prompt."""
        id = sequence.request.submit.id
        self._deltas.append(Delta(id, [], sequence.sample, prompt_logprobs=rows.logprobs, prompt_top=rows.top))

    def finish(self, sequence: Sequence, reason: FinishReason, timing: Timing) -> None:
        """The answer ends without drawing a further token."""
        token_ids, sequence.unsaid = sequence.unsaid, []
        self._deltas.append(Delta(sequence.request.submit.id, token_ids, sequence.sample, reason, timing=timing))

    def refuse(self, refusal: Refusal) -> None:
        self._refusals.append(refusal)
