"""Tokens of one answer to the text a caller may see: whole characters, no part of a stop string, scores in step."""

from __future__ import annotations

from collections import deque

from isochrone.engine import records
from isochrone.text import StopStrings, StreamDecoder, Tokenizer

from .place import Delta, FinishReason, Scored


class AnswerText:
    """One answer as it grows.  `is_done` after its last delta, or when a stop string ended it.

    continuing  the answer goes on after a text (a completion), rather than being one of its own (a chat turn)
    """

    def __init__(
        self, tokenizer: Tokenizer, index: int, stops: tuple[str, ...], *, continuing: bool, with_scores: bool
    ) -> None:
        self._tokenizer, self._index, self._with_scores = tokenizer, index, with_scores
        self._decoder = StreamDecoder(tokenizer, continuing=continuing)
        self._stops = StopStrings(stops) if stops else None
        self._at_start = not continuing
        self._num_bytes_shown = 0
        self._num_bytes_scored = 0
        self._held: deque[tuple[int, Scored]] = deque()  # each with its end in bytes of the answer
        self.is_done = False

    def push(self, step: records.Delta) -> Delta:
        """What this step's tokens let the caller see."""
        text, is_hit = self._shown(step)
        reason = _reason(step)
        if is_hit:
            reason = "stop"
        self.is_done = reason is not None
        scored: tuple[Scored, ...] = ()
        if self._with_scores:
            self._num_bytes_shown += len(text.encode())
            scored = self._scored(step, is_hit)
        num_cached = step.timing.num_cached if step.timing else 0
        return Delta(self._index, text, len(step.token_ids), scored, reason, num_cached)

    def _shown(self, step: records.Delta) -> tuple[str, bool]:
        text = self._decoder.push(step.token_ids)
        if step.finish_reason is not None:
            text += self._decoder.finish()
        if self._stops is None:
            return text, False
        text, is_hit = self._stops.push(text)
        if step.finish_reason is not None and not is_hit:
            text += self._stops.finish()
        return text, is_hit

    def _scored(self, step: records.Delta, is_hit: bool) -> tuple[Scored, ...]:
        """The tokens whose text is now shown; a token with part of a stop string never is."""
        for at, token_id in enumerate(step.token_ids):
            scored = score(self._tokenizer, token_id, step.logprobs[at], step.top[at] if step.top else [])
            self._num_bytes_scored += self._num_bytes(token_id)
            self._held.append((self._num_bytes_scored, scored))
        out = []
        while self._held:
            end, scored = self._held[0]
            if end > self._num_bytes_shown and (is_hit or not self.is_done):
                break
            out.append(scored)
            self._held.popleft()
        return tuple(out)

    def _num_bytes(self, token_id: int) -> int:
        """How much a token adds to the text, as the decoder writes it."""
        if self._tokenizer.is_special(token_id):
            return 0
        piece = self._tokenizer.piece(token_id)
        if self._at_start and piece:
            self._at_start = False
            return len(self._tokenizer.decoding.first(piece))
        return len(piece)


def score(tokenizer: Tokenizer, token_id: int, logprob: float | None, top: records.TopLogprobs) -> Scored:
    """A token with its text, its bytes and its alternatives."""
    text, raw = _spell(tokenizer, token_id)
    return Scored(text, raw, logprob, tuple((*_spell(tokenizer, other), other_logprob) for other, other_logprob in top))


def _spell(tokenizer: Tokenizer, token_id: int) -> tuple[str, bytes]:
    raw = tokenizer.piece(token_id)
    return raw.decode("utf-8", "replace"), raw


def _reason(step: records.Delta) -> FinishReason | None:
    """A deadline cuts an answer as max_tokens does: the caller's clients know no third reason."""
    return "length" if step.finish_reason == "deadline" else step.finish_reason
