"""What has been delivered of one request, so that another engine can go on with it."""

from __future__ import annotations

from collections import deque

import msgspec

from .records import Delta, Resume, Submit


class Stream:
    """One request on its way.  It keeps at most one delta a token, so max_tokens bounds it.

    deltas    those that came and were not yet taken
    num_deaths  engines that died under it since it last gained anything
    """

    def __init__(self, submit: Submit) -> None:
        self.submit = submit
        self.deltas: deque[Delta] = deque()
        self.num_deaths = 0
        self._answers: dict[int, list[int]] = {sample: [] for sample in range(submit.sampling.n)}
        self._num_scored = submit.num_scored
        self._has_gained = False

    @property
    def is_over(self) -> bool:
        """Nothing more will come."""
        return not self._answers

    def push(self, delta: Delta) -> None:
        """Take what a step gave, unless nobody waits for that sample any more."""
        answer = self._answers.get(delta.sample)
        if answer is None:
            return
        answer += delta.token_ids
        self._num_scored += len(delta.prompt_logprobs)
        self.num_deaths, self._has_gained = 0, True
        self.deltas.append(delta)
        if delta.finish_reason is not None:
            del self._answers[delta.sample]

    def stop(self, sample: int) -> None:
        """Nobody waits for this sample any more; what came of it and was not yet taken is dropped, but for scores."""
        if self._answers.pop(sample, None) is not None:
            self._has_gained = True
        self.deltas = deque(delta for delta in self.deltas if delta.sample != sample or delta.prompt_logprobs)

    def rest(self) -> Submit:
        """The request for what has not been delivered."""
        if not self._has_gained:
            return self.submit
        resume = tuple(Resume(sample, token_ids) for sample, token_ids in self._answers.items())
        return msgspec.structs.replace(self.submit, resume=resume, num_scored=self._num_scored)
