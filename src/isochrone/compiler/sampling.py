"""From logits to tokens, exact over the whole vocabulary.  One work item is one logit row.

Top-k and top-p cut at a threshold found by bisection on the bits of the weight: 30 passes give the very float at
which the cut lies; equal weights stay together.  The draw inverts the cumulative sum over fixed blocks of 256, so
it does not depend on who computes it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .ir import FLOAT, I32, PTR, Kernel, Type
from .isa import Target
from .table import Word
from .tile import LOG2_E, Tile, Value

# Words of the argument table.  WORK is a second matrix like LOGITS: there logits are edited and become weights.
LOGITS, ROW_BYTES, VOCAB, WORK = range(4)

VOCAB_BLOCK = 256
"""Rows of logits are padded to whole blocks: the unit of summation."""
_LANES = 16
_F, _I = Type("f32", _LANES), Type("i32", _LANES)
_INFINITY, _HUGE, _NO_INDEX = float("inf"), 3.0e38, 2**31 - 1


@dataclass(frozen=True, slots=True)
class Sample:
    """Log-probabilities, alternatives and a token for each row (inputs and outputs: table.py)."""

    @property
    def name(self) -> str:
        return "sample"

    def build(self, target: Target) -> Kernel:
        t = Tile(self.name, target)
        with t.items() as row:
            _Row(t, row).emit()
        return t.finish()


class _Row:
    """Emits the work on one row."""

    def __init__(self, t: Tile, row: Value) -> None:
        self.t = t
        self.logits = t.at(t.arg(LOGITS, PTR), row * t.arg(ROW_BYTES))
        self.work = t.at(t.arg(WORK, PTR), row * t.arg(ROW_BYTES))
        self.row = row + t.extent(Word.FIRST_ROW)
        self.vocab = t.arg(VOCAB)
        self.columns = ((self.vocab + (VOCAB_BLOCK - 1)) // VOCAB_BLOCK) * VOCAB_BLOCK

    def _param(self, word: Word, type: Type) -> Value:
        return self.t.load(self.t.extent(word, PTR), type, self.row * 4)

    def _result(self, word: Word, value: Value) -> None:
        self.t.store(self.t.extent(word, PTR), value, self.row * 4)

    def emit(self) -> None:
        t = self.t
        with t.loop(self.vocab, self.columns) as column:  # columns past the vocabulary weigh nothing
            t.store(self.logits, t.const(-_HUGE, FLOAT), column * 4)
        best, largest = self._largest(self.logits)
        self._result(Word.OUT_FINITE, self._finite())
        normaliser = largest + t.log(self._exp_sum(largest))
        self._alternatives(normaliser)
        target = t.cast("sext", self._param(Word.TARGETS, I32), "i64")
        token = t.cell(t.select(t.compare("sge", target, 0), target, best))
        with t.when(t.compare("slt", target, 0)):
            first, last = self._edits()
            plain = t.compare("sge", first, last) & t.compare("eq", t.extent(Word.MASK), 0)
            temperature = self._param(Word.TEMPERATURE, FLOAT)
            greedy = t.compare("ole", temperature, 0.0)
            with t.when((plain & greedy) ^ t.const(1, plain.type)):
                self._edit(first, last)
                best, largest = self._largest(self.work)
                token.set(best)
                with t.when(t.compare("ole", largest, -_HUGE)):  # the mask forbids every token
                    self._result(Word.OUT_FINITE, t.const(0, I32))
                with t.when(t.compare("ogt", temperature, 0.0)):
                    self._weigh(largest, temperature)
                    token.set(self._draw(self._threshold()))
        self._result(Word.OUT_TOKENS, t.cast("trunc", token.get(), "i32"))
        self._result(Word.OUT_LOGPROBS, t.load(self.logits, FLOAT, token.get() * 4) - normaliser)

    # --- over the whole row ---------------------------------------------------------------------------------------

    def _indices(self, column: Value) -> Value:
        return self.t.splat(self.t.cast("trunc", column, "i32"), _LANES) + self.t.iota(_LANES)

    def _first(self, chosen: Value, indices: Value) -> Value:
        """The smallest index among the chosen lanes."""
        t = self.t
        return t.tree(t.select(chosen, indices, t.const(_NO_INDEX, _I)), lambda a, b: t.minimum(a, b))

    def _largest(self, at: Value) -> tuple[Value, Value]:
        """Index (the first of equals) and value of the largest number of a row."""
        t = self.t
        top, where = t.cell(t.const(-_INFINITY, _F)), t.cell(t.zeros(_I))
        with t.loop(0, self.columns, _LANES) as column:
            value = t.load(at, _F, column * 4)
            larger = t.compare("ogt", value, top.get())
            where.set(t.select(larger, self._indices(column), where.get()))
            top.set(t.select(larger, value, top.get()))
        largest = t.largest(top.get())
        index = self._first(t.compare("oeq", top.get(), t.splat(largest, _LANES)), where.get())
        # A row of NaN has no largest: any index in range will do, the row is reported as not finite.
        return t.minimum(t.cast("sext", index, "i64"), self.vocab - 1), largest

    def _finite(self) -> Value:
        """1 if every logit is finite, else 0."""
        t = self.t
        trouble = t.cell(t.zeros(_F))
        with t.loop(0, self.columns, _LANES) as column:
            trouble.set(t.fma(t.load(self.logits, _F, column * 4), t.zeros(_F), trouble.get()))
        sound = t.compare("oeq", t.sum(trouble.get()), t.const(0.0, FLOAT))
        return t.select(sound, t.const(1, I32), t.const(0, I32))

    def _sum_blocks(self, term: Callable[[Value], Value], after: Callable[[Value, Value, Value], None]) -> Value:
        """Sum term(column) over the row in fixed blocks; after(block, sum before, sum with it) sees each."""
        t = self.t
        total = t.cell(t.const(0.0, FLOAT))
        with t.loop(0, self.columns, VOCAB_BLOCK) as block:
            part = t.cell(t.zeros(_F))
            with t.loop(block, block + VOCAB_BLOCK, _LANES) as column:
                part.set(part.get() + term(column))
            before = total.get()
            total.set(before + t.sum(part.get()))
            after(block, before, total.get())
        return total.get()

    def _exp_sum(self, largest: Value) -> Value:
        """Sum of exp(logit - largest)."""
        t, scale = self.t, self.t.const(LOG2_E, _F)

        def term(column: Value) -> Value:
            return t.exp2((t.load(self.logits, _F, column * 4) - t.splat(largest, _LANES)) * scale)

        return self._sum_blocks(term, lambda *_: None)

    def _alternatives(self, normaliser: Value) -> None:
        """The likeliest tokens: each pass finds the largest logit after the one found last."""
        t = self.t
        num_top = t.extent(Word.NUM_TOP)
        value, index = t.cell(t.const(_INFINITY, FLOAT)), t.cell(t.const(-1, I32))
        with t.loop(0, num_top) as rank:
            top, where = t.cell(t.const(-_INFINITY, _F)), t.cell(t.const(_NO_INDEX, _I))
            with t.loop(0, self.columns, _LANES) as column:
                logit, here = t.load(self.logits, _F, column * 4), self._indices(column)
                last = t.splat(value.get(), _LANES)
                later = t.compare("oeq", logit, last) & t.compare("sgt", here, t.splat(index.get(), _LANES))
                better = (t.compare("olt", logit, last) | later) & t.compare("ogt", logit, top.get())
                where.set(t.select(better, here, where.get()))
                top.set(t.select(better, logit, top.get()))
            best = t.largest(top.get())
            value.set(best)
            index.set(self._first(t.compare("oeq", top.get(), t.splat(best, _LANES)), where.get()))
            offset = (self.row * num_top + rank) * 4
            t.store(t.extent(Word.OUT_TOP_TOKENS, PTR), index.get(), offset)
            t.store(t.extent(Word.OUT_TOP_LOGPROBS, PTR), best - normaliser, offset)

    # --- edits and weights ----------------------------------------------------------------------------------------

    def _edits(self) -> tuple[Value, Value]:
        t, starts = self.t, self.t.extent(Word.EDIT_STARTS, PTR)
        first, last = (t.load(starts, I32, (self.row + k) * 4) for k in (0, 1))
        return t.cast("sext", first, "i64"), t.cast("sext", last, "i64")

    def _edit(self, first: Value, last: Value) -> None:
        """The work row becomes the logits after edits and mask."""
        t = self.t
        with t.loop(0, self.columns, _LANES) as column:
            t.store(self.work, t.load(self.logits, _F, column * 4), column * 4)
        with t.loop(first, last) as edit:
            token = t.cast("sext", t.load(t.extent(Word.EDIT_TOKENS, PTR), I32, edit * 4), "i64")
            factor = t.load(t.extent(Word.EDIT_FACTORS, PTR), FLOAT, edit * 4)
            logit = t.load(self.work, FLOAT, token * 4)
            scaled = t.select(t.compare("ogt", logit, 0.0), logit / factor, logit * factor)
            t.store(self.work, scaled + t.load(t.extent(Word.EDIT_DELTAS, PTR), FLOAT, edit * 4), token * 4)
        mask = t.extent(Word.MASK)
        with t.when(t.compare("ne", mask, 0)):
            row_bytes = ((self.vocab + 31) // 32) * 4
            at = t.at(t.extent(Word.MASK, PTR), self.row * row_bytes)
            with t.loop(0, self.vocab) as column:
                word = t.load(at, I32, (column // 32) * 4)
                allowed = (word >> t.cast("trunc", column % 32, "i32")) & 1
                with t.when(t.compare("eq", allowed, 0)):
                    t.store(self.work, t.const(-_HUGE, FLOAT), column * 4)

    def _weigh(self, largest: Value, temperature: Value) -> None:
        """The work row becomes exp((logit - largest) / temperature): 1 for the likeliest token."""
        t = self.t
        scale = t.splat(t.const(LOG2_E, FLOAT) / temperature, _LANES)
        with t.loop(0, self.columns, _LANES) as column:
            shifted = t.load(self.work, _F, column * 4) - t.splat(largest, _LANES)
            t.store(self.work, t.exp2(shifted * scale), column * 4)

    def _kept(self, column: Value, threshold: Value) -> Value:
        """Weights of at least the threshold, others as zero."""
        t = self.t
        weight = t.load(self.work, _F, column * 4)
        return t.select(t.compare("oge", weight, t.splat(threshold, _LANES)), weight, t.zeros(_F))

    def _threshold(self) -> Value:
        """The smallest weight that top-k, top-p and min-p leave in play."""
        t = self.t
        threshold = t.cell(t.const(1.0e-37, FLOAT))
        top_k = self._param(Word.TOP_K, I32)
        with t.when(t.compare("sgt", top_k, 0)):
            wanted = t.to_f32(top_k)
            self._bisect(threshold.get(), lambda bound: t.compare("oge", self._count(bound), wanted), threshold.set)
        top_p = self._param(Word.TOP_P, FLOAT)
        with t.when(t.compare("olt", top_p, 1.0)):
            wanted = self._mass(threshold.get()) * top_p
            self._bisect(threshold.get(), lambda bound: t.compare("oge", self._mass(bound), wanted), threshold.set)
        return t.maximum(threshold.get(), t.minimum(self._param(Word.MIN_P, FLOAT), 1.0))

    def _bisect(self, low: Value, holds: Callable[[Value], Value], result: Callable[[Value], None]) -> None:
        """The largest float in [low, 1] at which a condition that only turns false still holds."""
        t = self.t
        below, above = t.cell(t.bitcast(low, I32)), t.cell(t.const(0x3F800001, I32))
        with t.loop(0, 30):
            middle = (below.get() + above.get()) >> 1
            good = holds(t.bitcast(middle, FLOAT))
            below_now, above_now = below.get(), above.get()
            below.set(t.select(good, middle, below_now))
            above.set(t.select(good, above_now, middle))
        result(t.bitcast(below.get(), FLOAT))

    def _count(self, threshold: Value) -> Value:
        t = self.t
        one, zero, bound = t.const(1.0, _F), t.zeros(_F), t.splat(threshold, _LANES)

        def term(column: Value) -> Value:
            return t.select(t.compare("oge", t.load(self.work, _F, column * 4), bound), one, zero)

        return self._sum_blocks(term, lambda *_: None)

    def _mass(self, threshold: Value) -> Value:
        return self._sum_blocks(lambda column: self._kept(column, threshold), lambda *_: None)

    def _draw(self, threshold: Value) -> Value:
        """The token at which the cumulative weight passes uniform * total."""
        t = self.t
        goal = self._mass(threshold) * self._param(Word.UNIFORM, FLOAT)
        found, start, done = t.cell(t.const(0)), t.cell(t.const(0)), t.cell(t.const(0.0, FLOAT))

        def after(block: Value, before: Value, total: Value) -> None:
            # The last block with any weight stands in where rounding leaves the goal just past the end.
            here = t.compare("ogt", total, before) & t.compare("eq", found.get(), 0)
            passed = here & t.compare("ogt", total, goal)
            start.set(t.select(here, block, start.get()))
            done.set(t.select(here, before, done.get()))
            found.set(t.select(passed, t.const(1), found.get()))

        self._sum_blocks(lambda column: self._kept(column, threshold), after)
        token, hit, sum = t.cell(start.get()), t.cell(t.const(0)), t.cell(done.get())
        with t.loop(start.get(), start.get() + VOCAB_BLOCK) as column:
            weight = t.load(self.work, FLOAT, column * 4)
            kept = t.compare("oge", weight, threshold) & t.compare("eq", hit.get(), 0)
            sum.set(t.select(kept, sum.get() + weight, sum.get()))
            token.set(t.select(kept, column, token.get()))
            hit.set(t.select(kept & t.compare("ogt", sum.get(), goal), t.const(1), hit.get()))
        # In a row of NaN the padding weighs most: any index in range will do, the row is reported as not finite.
        return t.minimum(token.get(), self.vocab - 1)
