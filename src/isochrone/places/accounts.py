"""What is said with the end of an answer: where its time went, and how to compute it again."""

from __future__ import annotations

from msgspec.structs import replace

from isochrone.engine import records

from .place import Delta, Receipt, Request, Timing


class Accounts:
    """Of all answers to one request.

    model_hash  of the model's file, empty where nobody has computed it;  begun_ids: tokens drawn elsewhere
    """

    def __init__(
        self, request: Request, submit: records.Submit, info: records.EngineInfo, model_hash: str,
        begun_ids: list[int] | None = None,
    ) -> None:  # fmt: skip
        self._request, self._submit, self._info, self._model_hash = request, submit, info, model_hash
        self._answer_ids: list[list[int]] = [list(begun_ids or ()) for _ in range(request.n)]

    def settle(self, step: records.Delta, delta: Delta) -> Delta:
        """The delta, with timing and receipt when it is the last of its answer."""
        if self._request.with_receipt:
            self._answer_ids[step.sample] += step.token_ids
        if delta.finish_reason is None:
            return delta
        receipt = self._receipt(step.sample) if self._request.with_receipt else None
        return replace(delta, timing=self._timing(step.timing), receipt=receipt)

    def _timing(self, timing: records.Timing | None) -> Timing | None:
        """None for an answer that a stop string ended: the engine, which knows no strings, was still at work."""
        if timing is None:
            return None
        first_at = timing.first_token_at or timing.finished_at
        admitted_at = timing.admitted_at or first_at  # 0: all of it was forced, and the model never ran
        return Timing(
            queue_s=max(0.0, admitted_at - self._submit.arrived_at),
            prefill_s=max(0.0, first_at - admitted_at),
            decode_s=max(0.0, timing.finished_at - first_at),
            num_forced=timing.num_forced,
            num_drafted=timing.num_drafted,
            num_accepted=timing.num_accepted,
            predicted_ttft_s=timing.predicted_ttft_s,
        )

    def _receipt(self, sample: int) -> Receipt:
        seed = self._submit.sampling.seed
        grammar = self._submit.grammar
        assert seed is not None  # fixed when the request was put into the engine's words
        return Receipt(
            model_hash=self._model_hash,
            plan_hash=self._info.plan_hash,
            seed=seed,
            sample=sample,
            sampling=self._request.sampling,
            prompt_ids=tuple(self._submit.prompt_ids),
            answer_ids=tuple(self._answer_ids[sample]),
            model=self._request.model,
            grammar=(grammar.kind, grammar.source) if grammar else None,
        )
