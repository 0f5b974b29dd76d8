"""A sequence: everything about one sample that must survive a failure.  Its KV is only a cache of it."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence as ListLike
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from isochrone.budget import DEFAULT_TOTAL_S

from .prefix import child_key
from .records import FinishReason, Submit, Timing
from .sampling import Edits, stream_key
from .schedule import Standing

if TYPE_CHECKING:
    from .grammar import GrammarState
    from .speculate import Followed


@dataclass(slots=True, eq=False)
class Request:
    """The samples of one Submit that are still wanted.

    leader     the sample that computes the prompt for the others; None once it has
    has_begun  some sample has (or had) a token
    predicted_s  from arrival to first token, as predicted when it was taken; None when nothing was known
    """

    submit: Submit
    root: bytes
    samples: dict[int, Sequence] = field(default_factory=dict)
    leader: Sequence | None = None
    has_begun: bool = False
    predicted_s: float | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """What tokens drawn at consecutive rows came to.

    token_ids     those that joined the answer, forced ones after them included
    num_accepted  guesses that were right, whose keys and values therefore hold
    """

    token_ids: list[int]
    num_accepted: int
    reason: FinishReason | None = None
    stop_token_id: int | None = None


@dataclass(slots=True, eq=False)
class Sequence:
    """One sample of a request, owned by the engine.

    token_ids   prompt, then answer (an array of i32: slices are bytes that a step can read)
    num_answer_max  tokens the answer may have;  end_ids: tokens that end it
    keys        the prefix keys of its full blocks, as far as they were needed
    pages       its pages in order of position;  slot: its row in the batch tables, -1 while it waits
    grammar     its place in its grammar;  forces: whether what that forces is taken without drawing it
    unsaid      tokens forced before the first was drawn
    followed    what guessing its tokens knows of it;  is_guessed: False once a step with guesses of it went wrong
    num_scored  positions of the prompt whose successor has been scored;  num_scores: how many there are to score
    """

    request: Request
    sample: int
    standing: Standing
    token_ids: array[int]
    num_answer_max: int
    end_ids: frozenset[int]
    stream: int
    edits: Edits | None
    num_scores: int
    num_scored: int
    keys: list[bytes] = field(default_factory=list)
    pages: list[int] = field(default_factory=list)
    slot: int = -1
    num_registered: int = 0
    num_cached: int = 0
    num_preempted: int = 0
    num_lost: int = 0
    grammar: GrammarState | None = None
    forces: bool = False
    is_guessed: bool = True
    followed: Followed | None = None
    unsaid: list[int] = field(default_factory=list)
    num_forced: int = 0
    num_drafted: int = 0
    num_accepted: int = 0
    admitted_at: float = 0.0
    first_token_at: float = 0.0

    @classmethod
    def start(
        cls, request: Request, sample: int, number: int, answer_ids: ListLike[int], num_answer_max: int
    ) -> Sequence:
        """A sample from its beginning, or after the answer_ids that another engine has delivered."""
        submit, params = request.submit, request.submit.sampling
        end_ids = frozenset(params.stop_token_ids) | (frozenset() if params.ignore_eos else frozenset(submit.eos_ids))
        edits = Edits(params, submit.prompt_ids, end_ids) if Edits.are_needed(params) else None
        if edits is not None:
            for token in answer_ids:
                edits.push(token)
        assert params.seed is not None, "the seed is drawn before a sequence is made"
        num_scores = len(submit.prompt_ids) - 1 if submit.echo_logprobs and request.leader is None else 0
        standing = Standing(
            id=number,
            order_at=order_at(submit, has_begun=bool(answer_ids)),
            arrived_at=submit.arrived_at,
            total_at=math.inf if submit.total_at is None else submit.total_at,
            num_tokens=len(submit.prompt_ids) + len(answer_ids),
            needs_rows=num_scores > submit.num_scored,
        )
        return cls(
            request, sample, standing, array("i", [*submit.prompt_ids, *answer_ids]), num_answer_max, end_ids,
            stream_key(params.seed, sample), edits, num_scores, min(num_scores, submit.num_scored),
        )  # fmt: skip

    @property
    def num_prompt(self) -> int:
        return len(self.request.submit.prompt_ids)

    @property
    def num_answer(self) -> int:
        return len(self.token_ids) - self.num_prompt

    def block_keys(self, num_blocks: int, page_tokens: int) -> list[bytes]:
        """The prefix keys of its first full blocks."""
        while len(self.keys) < num_blocks:
            begin = len(self.keys) * page_tokens
            parent = self.keys[-1] if self.keys else self.request.root
            self.keys.append(child_key(parent, self.token_ids[begin : begin + page_tokens].tobytes()))
        return self.keys[:num_blocks]

    def num_reusable(self) -> int:
        """Positions it may take from the cache: the last token is always computed, and so is what must be scored."""
        num_tokens = len(self.token_ids) - 1
        return min(num_tokens, self.num_scored) if self.num_scored < self.num_scores else num_tokens

    def push(self, token: int) -> FinishReason | None:
        """A token was drawn; says whether the answer ends.  A token that ends it does not join it."""
        if token in self.end_ids:
            return "stop"
        self.token_ids.append(token)
        self.standing.num_tokens += 1
        if self.edits is not None:
            self.edits.push(token)
        if self.grammar is not None:
            self.grammar.push(token)
            if self.grammar.is_over:
                return "stop"
        return "length" if self.num_answer >= self.num_answer_max else None

    def follow(self, grammar: GrammarState, *, forces: bool) -> FinishReason | None:
        """Answer within a grammar, from its first token on; says whether that is all of the answer already."""
        self.grammar, self.forces = grammar, forces and not self.request.submit.sampling.logprobs
        if self.num_answer_max == 0:
            return None
        if grammar.is_over:
            return "stop"
        self.unsaid, reason = self._force()
        return reason

    def take(self, drawn: ListLike[int], drafts: ListLike[int]) -> Taken:
        """Tokens were drawn after the last and after each of these guesses: they count up to the first wrong guess.

        Raises BadGrammar.
        """
        token_ids: list[int] = []
        num_accepted = 0
        for at, token in enumerate(drawn):
            num_answer, num_accepted = self.num_answer, at
            reason = self.push(token)
            if self.num_answer == num_answer:
                return Taken(token_ids, at, reason, token)
            token_ids.append(token)
            if reason is not None:
                return Taken(token_ids, at, reason)
            if at == len(drafts) or drafts[at] != token:
                break
        forced, reason = self._force()
        return Taken(token_ids + forced, num_accepted, reason)

    def num_guessable(self) -> int:
        """Most tokens that may be guessed ahead: the rows after the first draw as if the guesses had been drawn."""
        is_fixed = self.edits is None or self.edits.is_fixed
        return self.num_answer_max - self.num_answer - 1 if is_fixed and self.is_guessed else 0

    def _force(self) -> tuple[list[int], FinishReason | None]:
        """Take the tokens that the grammar forces next, without drawing them."""
        token_ids: list[int] = []
        while self.forces and self.grammar is not None and self.grammar.forced:
            token, num_answer = self.grammar.forced[0], self.num_answer
            reason = self.push(token)
            if self.num_answer > num_answer:
                token_ids.append(token)
                self.num_forced += 1
            if reason is not None:
                return token_ids, reason
        return token_ids, None

    def timing(self, now: float) -> Timing:
        return Timing(
            admitted_at=self.admitted_at,
            first_token_at=self.first_token_at,
            finished_at=now,
            num_prompt=self.num_prompt,
            num_generated=self.num_answer,
            num_cached=self.num_cached,
            num_preempted=self.num_preempted,
            num_forced=self.num_forced,
            num_drafted=self.num_drafted,
            num_accepted=self.num_accepted,
            predicted_ttft_s=self.request.predicted_s,
        )


def order_at(submit: Submit, *, has_begun: bool) -> float:
    """The deadline that ranks a sequence: of its first token, then of its last."""
    if not has_begun:
        return submit.order_at
    return submit.arrived_at + DEFAULT_TOTAL_S if submit.total_at is None else submit.total_at
