"""Tokens of one answer to what a caller may see: whole characters, no part of a stop string, thoughts and calls told
apart, scores in step."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Iterator

from msgspec.structs import replace

from isochrone.engine import records
from isochrone.text import StopStrings, StreamDecoder, Tokenizer
from isochrone.text.tools import Called, Parser, Piece, Said, Thought

from .place import Delta, FinishReason, Scored, ToolDelta


class AnswerText:
    """One answer as it grows.  `is_done` after its last delta, or when a stop string ended it.

    continuing  the answer goes on after a text (a completion), rather than being one of its own (a chat turn)
    parser      tells thoughts and calls from words; None where all is words.  Stop strings end words only
    shown_ids   control tokens that the parser must see
    id_chars    length of the ids of calls; None: as long as usual
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        index: int,
        stops: tuple[str, ...],
        *,
        continuing: bool,
        with_scores: bool,
        parser: Parser | None = None,
        shown_ids: frozenset[int] = frozenset(),
        id_chars: int | None = None,
    ) -> None:
        self._tokenizer, self._index, self._with_scores = tokenizer, index, with_scores
        self._decoder = StreamDecoder(tokenizer, continuing=continuing, shown_ids=shown_ids)
        self._parser, self._shown_ids = parser, shown_ids
        self._id_chars = id_chars
        self._stop_strings = stops
        self._stops = StopStrings(stops) if stops else None
        self._at_start = not continuing
        self._num_bytes_raw = self._num_bytes_settled = self._num_bytes_scored = 0
        self._held: deque[tuple[int, Scored]] = deque()  # each with its end in bytes of the answer
        self._has_called = False
        self.is_done = False

    def push(self, step: records.Delta) -> Delta:
        """What this step's tokens let the caller see."""
        if not self._with_scores or len(step.token_ids) < 2:
            return self._push(step)
        parts = []  # token by token: which scores are settled must not depend on how tokens came in steps
        for one in _singly(step):
            parts.append(self._push(one))
            if self.is_done:
                break
        return _joined(parts, len(step.token_ids))

    def _push(self, step: records.Delta) -> Delta:
        is_last = step.finish_reason is not None
        was_thinking = self._parser is not None and self._parser.is_thinking
        pieces = self._pieces(step.token_ids, is_last)
        calls = tuple(self._call(piece) for piece in pieces if isinstance(piece, Called))
        text, is_hit = self._shown(pieces, is_last)
        reason = self._reason(step, is_hit)
        self.is_done = reason is not None
        reasoning = "".join(piece.text for piece in pieces if isinstance(piece, Thought))
        return Delta(
            self._index,
            text,
            len(step.token_ids),
            self._scored(step, text, is_hit) if self._with_scores else (),
            reason,
            step.timing.num_cached if step.timing else 0,
            reasoning=reasoning,
            tool_calls=calls,
            ended_by="deadline" if step.finish_reason == "deadline" and not is_hit else None,
            stopped_by=self._stops.hit if self._stops and is_hit else None,
            num_reasoning=len(step.token_ids) if reasoning or was_thinking else 0,
        )

    def restore(self, token_ids: list[int]) -> Delta:
        """Go on after tokens that another place has drawn; gives what they come to, which was said already.

        Their scores were said as far as what they are is settled: `num_unscored` of them still lack theirs.
        """
        return self.push(records.Delta(0, token_ids, logprobs=[0.0] * len(token_ids)))

    @property
    def num_unscored(self) -> int:
        """Tokens, the last ones, of which it is not settled yet what they are."""
        return len(self._held)

    def rescore(self, at: int, token_id: int, logprob: float, top: records.TopLogprobs) -> None:
        """Give the unscored token at this place its score."""
        end, _ = self._held[at]
        self._held[at] = end, score(self._tokenizer, token_id, logprob, top)

    def _pieces(self, token_ids: list[int], is_last: bool) -> list[Piece]:
        text = self._decoder.push(token_ids)
        if is_last:
            text += self._decoder.finish()
        if self._with_scores:
            self._num_bytes_raw += len(text.encode())
        if self._parser is None:
            return [Said(text)] if text else []
        pieces = self._parser.push(text)
        return pieces + self._parser.finish() if is_last else pieces

    def _call(self, piece: Called) -> ToolDelta:
        if not piece.name:
            return ToolDelta(piece.index, arguments=piece.arguments)
        self._has_called = True
        id = secrets.token_hex(12)
        return ToolDelta(
            piece.index, id[: self._id_chars] if self._id_chars else f"call_{id}", piece.name, piece.arguments
        )

    def _shown(self, pieces: list[Piece], is_last: bool) -> tuple[str, bool]:
        """(the words that may be seen, whether a stop string ended them)"""
        if self._stops is None:
            return "".join(piece.text for piece in pieces if isinstance(piece, Said)), False
        shown = ""
        for piece in pieces:
            if isinstance(piece, Said):
                text, is_hit = self._stops.push(piece.text)
                shown += text
                if is_hit:
                    return shown, True
            elif isinstance(piece, Called) and self._stops.num_held:
                shown += self._stops.finish()  # no stop string reaches over a call
                self._stops = StopStrings(self._stop_strings)
        return shown + self._stops.finish() if is_last else shown, False

    def _reason(self, step: records.Delta, is_hit: bool) -> FinishReason | None:
        """A deadline cuts an answer as max_tokens does: the caller's clients know no third reason."""
        reason = "stop" if is_hit else step.finish_reason
        if reason == "stop" and self._has_called:
            return "tool_calls"
        return "length" if reason == "deadline" else reason

    def _scored(self, step: records.Delta, text: str, is_hit: bool) -> tuple[Scored, ...]:
        """The tokens of which it is settled what they are; a token with part of a stop string never is."""
        for at, token_id in enumerate(step.token_ids):
            scored = score(self._tokenizer, token_id, step.logprobs[at], step.top[at] if step.top else [])
            self._num_bytes_scored += self._num_bytes(token_id)
            self._held.append((self._num_bytes_scored, scored))
        if self._parser is None or is_hit:
            self._num_bytes_settled += len(text.encode())
        elif self._parser.num_held == 0 and (self._stops is None or self._stops.num_held == 0):
            self._num_bytes_settled = self._num_bytes_raw
        out = []
        while self._held:
            end, scored = self._held[0]
            if end > self._num_bytes_settled and (is_hit or not self.is_done):
                break
            out.append(scored)
            self._held.popleft()
        return tuple(out)

    def _num_bytes(self, token_id: int) -> int:
        """How much a token adds to the text, as the decoder writes it."""
        if self._tokenizer.is_special(token_id):
            return len((self._tokenizer.id_to_token(token_id) or "").encode()) if token_id in self._shown_ids else 0
        piece = self._tokenizer.piece(token_id)
        if self._at_start and piece:
            self._at_start = False
            return len(self._tokenizer.decoding.first(piece))
        return len(piece)


def _singly(step: records.Delta) -> Iterator[records.Delta]:
    """The step as steps of one token each; what ends it goes with the last."""
    last = len(step.token_ids) - 1
    for at, token_id in enumerate(step.token_ids):
        logprobs, top = step.logprobs[at : at + 1], step.top[at : at + 1]
        if at == last:
            yield replace(step, token_ids=[token_id], logprobs=logprobs, top=top)
        else:
            yield records.Delta(step.id, [token_id], step.sample, logprobs=logprobs, top=top)


def _joined(parts: list[Delta], num_tokens: int) -> Delta:
    return replace(
        parts[-1],
        text="".join(part.text for part in parts),
        num_tokens=num_tokens,
        scored=tuple(scored for part in parts for scored in part.scored),
        reasoning="".join(part.reasoning for part in parts),
        tool_calls=tuple(call for part in parts for call in part.tool_calls),
        num_reasoning=sum(part.num_reasoning for part in parts),
    )


def score(tokenizer: Tokenizer, token_id: int, logprob: float | None, top: records.TopLogprobs) -> Scored:
    """A token with its text, its bytes and its alternatives."""
    text, raw = _spell(tokenizer, token_id)
    return Scored(text, raw, logprob, tuple((*_spell(tokenizer, other), other_logprob) for other, other_logprob in top))


def _spell(tokenizer: Tokenizer, token_id: int) -> tuple[str, bytes]:
    raw = tokenizer.piece(token_id)
    return raw.decode("utf-8", "replace"), raw
