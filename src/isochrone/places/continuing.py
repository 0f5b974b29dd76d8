"""An answer that another place has begun, gone on with here: nothing is said twice, and nothing is left out.

With its tokens it goes on exactly: they are pushed through the same decoder, stop strings and parser that the other
place had, and the engine resumes behind them.  With its words alone it goes on roughly: they are cut into tokens anew.

Tokens whose scores the other place still held back are drawn once more, since nobody else knows those scores.
"""

from __future__ import annotations

import msgspec

from isochrone.engine import records
from isochrone.errors import BadRequest, Unreachable

from .answer import AnswerText
from .place import Chat, Delta, Partial, Request
from .reader import Read, Reader


def begun_ids(request: Request, read: Read, reader: Reader) -> list[int]:
    """The tokens of what is answered already; none without a partial.  Raises BadRequest."""
    partial = request.partial
    if partial is None or not (partial.ids or partial.text or partial.reasoning):
        return []
    if request.n != 1:
        raise BadRequest(
            f"n is {request.n}, and only one answer can be gone on with.", fix="Continue one answer at a time.",
            param="partial",
        )  # fmt: skip
    if partial.ids:
        return list(partial.ids)
    return reader.tokenizer.encode(_written(partial, request, read, reader), add_special=False)


def _written(partial: Partial, request: Request, read: Read, reader: Reader) -> str:
    """The answer as the model would have written it."""
    if not isinstance(request.prompt, Chat):
        return partial.text
    if reader.dialect.tools.reads_all:
        raise BadRequest(
            "This model writes its answers in marked parts, which words alone do not give back.",
            fix="Send the tokens of what is answered (partial.ids), or ask another place.", param="partial",
        )  # fmt: skip
    thinking = reader.dialect.thinking
    if thinking is None or read.opening == "no":
        return partial.text
    if not partial.reasoning:
        return f"{thinking.close}\n\n{partial.text}" if read.opening == "open" else partial.text
    begun = "" if read.opening == "open" else f"{thinking.open}{thinking.label}\n"
    rest = f"\n{thinking.close}\n\n{partial.text}" if partial.text else ""
    return f"{begun}{partial.reasoning}{rest}"


class Continuation:
    """Restores an answer, then tells what the engine draws for it from what it only draws again.

    ids   the tokens answered already;  said: what they come to
    """

    def __init__(self, answer: AnswerText, ids: list[int], partial: Partial) -> None:
        """Raises BadRequest when these tokens do not come to the partial's words."""
        self.ids, self.said = ids, answer.restore(ids)
        self._answer = answer
        self._redrawn = ids[len(ids) - answer.num_unscored :]
        self._at = 0
        if partial.ids:
            _expect_same(self.said, partial)

    @property
    def is_over(self) -> bool:
        """A stop string stands in what is answered already."""
        return self.said.finish_reason is not None

    @property
    def end(self) -> Delta:
        """The only delta of an answer that is over."""
        said = self.said
        return Delta(said.index, "", 0, finish_reason=said.finish_reason, stopped_by=said.stopped_by)

    def resumed(self, submit: records.Submit) -> records.Submit:
        """The request for the rest."""
        kept = self.ids[: len(self.ids) - len(self._redrawn)]
        return msgspec.structs.replace(submit, resume=(records.Resume(0, kept),))

    def rest(self, step: records.Delta) -> records.Delta:
        """The step without the tokens drawn again.  Raises Unreachable when these are others than before."""
        num = min(len(self._redrawn) - self._at, len(step.token_ids))
        if num <= 0:
            return step
        for at in range(num):
            token_id = step.token_ids[at]
            if token_id != self._redrawn[self._at]:
                raise Unreachable(
                    "This place draws other tokens than the one that began the answer, so it cannot go on exactly.",
                    fix="Ask the whole question again, or a place with the same model, weights and kernels.",
                )
            self._answer.rescore(self._at, token_id, step.logprobs[at], step.top[at] if step.top else [])
            self._at += 1
        return msgspec.structs.replace(
            step, token_ids=step.token_ids[num:], logprobs=step.logprobs[num:], top=step.top[num:]
        )


def _expect_same(said: Delta, partial: Partial) -> None:
    """A caller that tells only the tokens has seen what they come to."""
    if not (partial.text or partial.reasoning) or (partial.text, partial.reasoning) == (said.text, said.reasoning):
        return
    raise BadRequest(
        f"The tokens of the partial answer come to {len(said.text)} characters of text and {len(said.reasoning)} of "
        f"reasoning, and it says {len(partial.text)} and {len(partial.reasoning)}, or others.",
        fix="Send the tokens and the words of the same answer, from a place with the same model and the same request.",
        param="partial",
    )  # fmt: skip
