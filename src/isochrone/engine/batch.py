"""A step's arrays, kept per running sequence and gathered, so that a decode step makes no object per token.

Each running sequence has a slot: a row in every table.  A step that decodes the same slots as the last one gathers
tokens, positions and pages only; its sampling rows are still there.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from isochrone.runtime.step import I32, U32, RuntimeInfo, SamplingRows, StepBatch, StepResult

from .sampling import NO_EDITS, Edits, gather_edits, uniforms
from .sequence import Sequence


@dataclass(slots=True)
class Work:
    """What one sequence does in a step: its next tokens, then drafts; its rows are num_scores scores, then draws.

    draws   whether a token is drawn after the last of its tokens, and after each draft
    drafts  tokens guessed to follow: each is right if it is the one drawn before it
    masks   of the rows that draw, if it has a grammar
    """

    sequence: Sequence
    num_tokens: int
    num_scores: int = 0
    draws: bool = True
    drafts: list[int] = field(default_factory=list)
    masks: list[U32] = field(default_factory=list)

    @property
    def num_rows(self) -> int:
        return self.num_scores + self.num_draws

    @property
    def num_draws(self) -> int:
        return 1 + len(self.drafts) if self.draws else 0

    def num_rows_read(self, result: StepResult, first_row: int) -> int:
        """Rows that count: those after a wrong guess do not."""
        if not self.drafts:
            return self.num_rows
        first_row += self.num_scores
        num_right = 0
        for at, token in enumerate(self.drafts):
            if result.tokens[first_row + at] != token:
                break
            num_right += 1
        return self.num_scores + 1 + num_right


@dataclass(frozen=True, slots=True)
class _Settings:
    """Sampling of a list of slots, gathered."""

    slots: list[int]
    temperature: np.ndarray[tuple[int], np.dtype[np.float32]]
    top_k: I32
    top_p: np.ndarray[tuple[int], np.dtype[np.float32]]
    min_p: np.ndarray[tuple[int], np.dtype[np.float32]]
    streams: np.ndarray[tuple[int], np.dtype[np.uint64]]
    index: np.ndarray[tuple[int], np.dtype[np.intp]]
    edits: list[Edits | None]
    num_top: int
    is_drawn: bool
    is_edited: bool


class BatchTables:
    """The tables of all slots, and the batches made of them.  A batch is valid until the next one is made."""

    def __init__(self, info: RuntimeInfo, num_slots: int) -> None:
        self._pages = np.full((num_slots, -(-info.context // info.page_tokens)), -1, np.int32)
        self._next_token, self._position = np.zeros(num_slots, np.int32), np.zeros(num_slots, np.int32)
        self._temperature, self._top_p, self._min_p = (np.zeros(num_slots, np.float32) for _ in range(3))
        self._top_k, self._streams = np.zeros(num_slots, np.int32), np.zeros(num_slots, np.uint64)
        self._num_top = [0] * num_slots
        self._edits: list[Edits | None] = [None] * num_slots
        self._free = list(range(num_slots - 1, -1, -1))
        self._token_ids, self._positions = (np.zeros(info.num_tokens_max, np.int32) for _ in range(2))
        self._count = np.arange(max(info.num_tokens_max, num_slots) + 1, dtype=np.int32)
        self._no_targets = np.full(max(num_slots, info.num_rows_max), -1, np.int32)
        self._no_uniforms = np.zeros(max(num_slots, info.num_rows_max), np.float32)
        self._no_edit_starts = np.zeros(max(num_slots, info.num_rows_max) + 1, np.int32)
        self._num_mask_words = -(-info.vocab_size // 32)
        self._settings: _Settings | None = None

    def enter(self, sequence: Sequence) -> None:
        """Give an admitted sequence, which has its pages, a slot."""
        slot, params = self._free.pop(), sequence.request.submit.sampling
        sequence.slot = slot
        self._pages[slot, : len(sequence.pages)] = sequence.pages
        self._temperature[slot], self._top_k[slot] = params.temperature, params.top_k
        self._top_p[slot], self._min_p[slot] = params.top_p, params.min_p
        self._streams[slot], self._edits[slot] = sequence.stream, sequence.edits
        self._num_top[slot] = params.top_logprobs
        self._settings = None
        self.set_next(sequence)

    def leave(self, sequence: Sequence) -> None:
        """Take the slot back, before the pages are."""
        self._pages[sequence.slot, : len(sequence.pages)] = -1
        self._edits[sequence.slot] = None
        self._free.append(sequence.slot)
        sequence.slot = -1
        self._settings = None

    def set_page(self, sequence: Sequence, at: int, page: int) -> None:
        self._pages[sequence.slot, at] = page

    def set_next(self, sequence: Sequence) -> None:
        """The token it would decode next."""
        at = sequence.standing.num_computed
        self._next_token[sequence.slot], self._position[sequence.slot] = sequence.token_ids[at], at

    def advance(self, sequences: list[Sequence], tokens: I32) -> None:
        """Each has drawn its token in a step of decode only."""
        index = self._gathered([s.slot for s in sequences]).index
        self._next_token[index] = tokens
        self._position[index] += 1

    def decode(self, sequences: list[Sequence]) -> StepBatch:
        """One token and one row each."""
        num, settings = len(sequences), self._gathered([s.slot for s in sequences])
        index, positions = settings.index, self._positions[:num]
        np.take(self._position, index, out=positions)
        token_ids = np.take(self._next_token, index, out=self._token_ids[:num])
        sampling = self._sampling(settings, positions, self._no_targets[:num], settings.edits)
        rows = self._count[:num]
        return StepBatch(
            token_ids, positions, self._count[: num + 1], self._pages[index], rows, sampling, settings.num_top
        )

    def mixed(self, works: list[Work]) -> StepBatch:
        """Any work, in order."""
        starts = np.zeros(len(works) + 1, np.int32)
        logit_rows: list[int] = []
        row_slots: list[int] = []
        targets: list[int] = []
        scored: list[bool] = []
        at = 0
        for number, work in enumerate(works):
            sequence, num = work.sequence, work.num_tokens
            begin = sequence.standing.num_computed
            chunk = np.frombuffer(sequence.token_ids[begin : begin + num], np.int32)
            self._token_ids[at : at + num] = chunk
            num_all = num + len(work.drafts)
            self._token_ids[at + num : at + num_all] = work.drafts
            self._positions[at : at + num_all] = self._count_from(begin, num_all)
            if work.num_scores:
                first = at + sequence.num_scored - begin
                logit_rows += range(first, first + work.num_scores)
                targets += sequence.token_ids[sequence.num_scored + 1 : sequence.num_scored + 1 + work.num_scores]
            logit_rows += range(at + num - 1, at + num - 1 + work.num_draws)
            targets += [-1] * work.num_draws
            row_slots += [sequence.slot] * work.num_rows
            scored += [True] * work.num_scores + [False] * work.num_draws
            at += num_all
            starts[number + 1] = at
        settings = self._gathered(row_slots)
        edits = [None if is_score else e for is_score, e in zip(scored, settings.edits, strict=True)]
        rows = np.array(logit_rows, np.int32)
        mask = self._mask(works, len(rows))
        sampling = self._sampling(settings, self._positions[rows], np.array(targets, np.int32), edits, mask)
        pages = self._pages[[work.sequence.slot for work in works]]
        return StepBatch(self._token_ids[:at], self._positions[:at], starts, pages, rows, sampling, settings.num_top)

    def _mask(self, works: list[Work], num_rows: int) -> U32 | None:
        """The masks of all rows, none where nothing is masked; rows of others allow every token."""
        if not any(work.masks for work in works):
            return None
        mask, row = np.full((num_rows, self._num_mask_words), 0xFFFFFFFF, np.uint32), 0
        for work in works:
            row += work.num_rows
            if work.masks:
                mask[row - work.num_draws : row] = work.masks
        return mask

    def _count_from(self, begin: int, num: int) -> I32:
        return self._count[:num] + np.int32(begin)

    def _gathered(self, slots: list[int]) -> _Settings:
        if self._settings is not None and self._settings.slots == slots:
            return self._settings
        index, edits = np.array(slots, np.intp), [self._edits[slot] for slot in slots]
        temperature = self._temperature[index]
        self._settings = _Settings(
            slots, temperature, self._top_k[index], self._top_p[index], self._min_p[index], self._streams[index],
            index, edits, max((self._num_top[slot] for slot in slots), default=0), bool(temperature.any()),
            any(e is not None for e in edits),
        )  # fmt: skip
        return self._settings

    def _sampling(
        self, settings: _Settings, positions: I32, targets: I32, edits: list[Edits | None], mask: U32 | None = None
    ) -> SamplingRows:
        num = len(settings.slots)
        # The token drawn at a row stands one position further on.
        uniform = uniforms(settings.streams, positions + 1) if settings.is_drawn else self._no_uniforms[:num]
        edited = gather_edits(edits) if settings.is_edited else (self._no_edit_starts[: num + 1], *NO_EDITS)
        return SamplingRows(
            settings.temperature, settings.top_k, settings.top_p, settings.min_p, uniform, targets, *edited, mask
        )
