"""The compiled plan on this machine's processors."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..compiler.driver import Field
from ..compiler.plan import Address, Arg, Bits, Plan, Region, Variant
from ..compiler.table import ANGLE_STEP, PAGE_TOKENS, ROWS_PANEL, Word
from .memory import aligned_words, zeroed_bytes
from .pool import Pool
from .step import F32, I32, NUM_TOP_MAX, RuntimeInfo, StepBatch, StepResult

U8 = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class RegionTime:
    """What a region took: its name, and cycles of the time stamp counter since the last reading."""

    name: str
    cycles: int


class CpuRuntime:
    """Runs steps of one plan.

    weights  u8 [plan.weights_bytes], packed as the plan's layout table says; may be a read-only map
    angles   name of the frequency weight -> f32 [rotary_dim / 2]
    """

    def __init__(
        self, plan: Plan, library: Path, weights: U8, angles: Mapping[str, F32], *, context: int, num_pages: int,
        num_threads: int,
    ) -> None:  # fmt: skip
        self._plan, self._weights = plan, weights
        self._library = ctypes.CDLL(str(library))
        self._arena = zeroed_bytes(plan.arena_bytes)
        # All layers and heads of a page stand together, so that a short sequence touches little memory even where
        # the system hands it out in large pages, and a long one needs few entries of the translation buffer.
        self._cache = zeroed_bytes(num_pages * plan.page_bytes, huge=True)
        self._angles = [table for t in plan.angles for table in angle_tables(angles[t.inv_freq], t.factor, context)]
        self._context = aligned_words(Word.NUM_WORDS)
        self._info = RuntimeInfo(
            vocab_size=plan.vocab, context=context, page_tokens=PAGE_TOKENS, num_pages=num_pages,
            num_tokens_max=plan.limits.num_tokens, num_sequences_max=plan.limits.num_sequences,
            num_rows_max=plan.limits.num_rows, plan_hash=plan.hash, kv_type=plan.kv_type,
            page_bytes=plan.page_bytes,
        )  # fmt: skip
        self._io = _Io(self._context, self._info)
        self._bind_tables()
        self._arguments: list[NDArray[np.int64]] = []
        self._records = aligned_words(len(plan.regions) * Field.NUM_WORDS).reshape(-1, Field.NUM_WORDS)
        for record, region in zip(self._records, plan.regions, strict=True):
            self._bind(record, region)
        self._pool = Pool(self._library, num_threads)
        self._pool.start(self._records.ctypes.data, plan.panel_begin, len(plan.regions), self._context.ctypes.data)

    @property
    def info(self) -> RuntimeInfo:
        return self._info

    @property
    def plan(self) -> Plan:
        return self._plan

    def step(self, batch: StepBatch) -> StepResult:
        """Run one step; see runtime/step.py."""
        self._io.write(batch)
        self._pool.step()
        return self._io.read(batch)

    def read_pages(self, pages: Sequence[int]) -> U8:
        """Copies of these pages, u8 [pages, page_bytes]."""
        return self._pages()[list(pages)]

    def write_pages(self, pages: Sequence[int], data: U8) -> None:
        """Put back what `read_pages` gave."""
        self._pages()[list(pages)] = data

    def _pages(self) -> U8:
        """The cache by page, u8 [pages, page_bytes]: what lies behind rounds it up to large pages of the system."""
        num_pages, page_bytes = self._info.num_pages, self._info.page_bytes
        return self._cache[: num_pages * page_bytes].reshape(num_pages, page_bytes)

    def times(self) -> Sequence[RegionTime]:
        """Cycles each region took since the last call, as worker 0 saw them."""
        clocks = self._records[:, Field.CLOCK]
        times = [RegionTime(r.name, int(c)) for r, c in zip(self._plan.regions, clocks, strict=True)]
        clocks[:] = 0
        return times

    def close(self) -> None:
        self._pool.close()

    # --- binding --------------------------------------------------------------------------------------------------

    def _bind_tables(self) -> None:
        base, tables = self._arena.ctypes.data, self._plan.tables
        self._context[Word.ITEMS] = base + tables["items"]
        self._context[Word.COMBINES] = base + tables["combines"]
        self._context[Word.PARTIAL_ROWS_MAX] = self._plan.limits.partial_rows

    def _bind(self, record: NDArray[np.int64], region: Region) -> None:
        record[Field.KERNEL_ONE], record[Field.ARGS_ONE] = self._variant(region.one)
        record[Field.KERNEL_MANY], record[Field.ARGS_MANY] = self._variant(region.many)
        record[Field.EXTENT], record[Field.MULTIPLIER] = region.extent, region.multiplier
        record[Field.ITEM_ROWS_ONE], record[Field.ITEM_ROWS_MANY] = region.one.item_rows, region.many.item_rows
        record[Field.BARRIER] = region.barrier

    def _variant(self, variant: Variant) -> tuple[int, int]:
        """Addresses of a kernel and of its bound arguments."""
        kernel = ctypes.cast(getattr(self._library, variant.kernel), ctypes.c_void_p).value
        arguments = np.array([self._word(arg) for arg in variant.args], np.int64)
        self._arguments.append(arguments)
        assert kernel is not None
        return kernel, arguments.ctypes.data

    def _word(self, arg: Arg) -> int:
        match arg:
            case int():
                return arg
            case Bits(value):
                return int(struct.unpack("<I", struct.pack("<f", value))[0])
            case Address("weights", offset):
                return int(self._weights.ctypes.data) + offset
            case Address("arena", offset):
                return int(self._arena.ctypes.data) + offset
            case Address("cache", offset):
                return int(self._cache.ctypes.data) + offset
            case Address("angles", index):
                return int(self._angles[index].ctypes.data) if self._angles else 0
        raise AssertionError(arg)


def angle_tables(frequencies: F32, factor: float, context: int) -> tuple[F32, F32]:
    """cos and sin of the high and the low part of positions: f32 [parts, 2, rotary_dim / 2] each.

    Position p turns by (p // 64 * 64 + p % 64) * frequency; the kernel adds the two angles.  The factor (YaRN) rides
    on the high part.
    """
    wide = frequencies.astype(np.float64)
    high = np.arange(-(-context // ANGLE_STEP), dtype=np.float64)[:, None] * ANGLE_STEP * wide
    low = np.arange(ANGLE_STEP, dtype=np.float64)[:, None] * wide
    tables = [np.stack([np.cos(a), np.sin(a)], axis=1) for a in (high, low)]
    return (tables[0] * factor).astype(np.float32), tables[1].astype(np.float32)


class _Io:
    """The step's inputs and outputs at fixed addresses, so that a step copies and binds nothing else."""

    def __init__(self, context: NDArray[np.int64], info: RuntimeInfo) -> None:
        self._context, self._info = context, info
        tokens, rows, sequences = info.num_tokens_max, info.num_rows_max, info.num_sequences_max
        self._pages_max = -(-info.context // PAGE_TOKENS)
        self.token_ids, self.positions, self.token_sequences = (np.zeros(tokens, np.int32) for _ in range(3))
        self.starts = np.zeros(sequences + 1, np.int32)
        self.pages = np.zeros((sequences, self._pages_max), np.int32)
        self.logit_rows, self.top_k, self.targets, self.out_tokens, self.out_finite = (
            np.zeros(rows, np.int32) for _ in range(5)
        )
        self.edit_starts = np.zeros(rows + 1, np.int32)
        self.temperature, self.top_p, self.min_p, self.uniform, self.out_logprobs = (
            np.zeros(rows, np.float32) for _ in range(5)
        )
        self.out_top_tokens = np.zeros(rows * NUM_TOP_MAX, np.int32)
        self.out_top_logprobs = np.zeros(rows * NUM_TOP_MAX, np.float32)
        self._no_top = np.zeros((rows, 0), np.int32), np.zeros((rows, 0), np.float32)
        self.poison = np.zeros(sequences, np.int32)
        self._sequence_numbers = np.arange(sequences, dtype=np.int32)
        for word, array in (
            (Word.TOKEN_IDS, self.token_ids), (Word.POSITIONS, self.positions),
            (Word.TOKEN_SEQUENCES, self.token_sequences), (Word.STARTS, self.starts), (Word.PAGES, self.pages),
            (Word.LOGIT_ROWS, self.logit_rows), (Word.TOP_K, self.top_k), (Word.TARGETS, self.targets),
            (Word.OUT_TOKENS, self.out_tokens), (Word.OUT_FINITE, self.out_finite),
            (Word.EDIT_STARTS, self.edit_starts), (Word.TEMPERATURE, self.temperature), (Word.TOP_P, self.top_p),
            (Word.MIN_P, self.min_p), (Word.UNIFORM, self.uniform), (Word.OUT_LOGPROBS, self.out_logprobs),
            (Word.OUT_TOP_TOKENS, self.out_top_tokens), (Word.OUT_TOP_LOGPROBS, self.out_top_logprobs),
            (Word.POISON, self.poison),
        ):  # fmt: skip
            context[word] = array.ctypes.data
        context[Word.PAGES_ROW_BYTES], context[Word.ONE] = 4 * self._pages_max, 1

    def write(self, batch: StepBatch) -> None:
        """Copy a step's inputs to their places."""
        num_tokens, num_rows, num_sequences = len(batch.token_ids), len(batch.logit_rows), len(batch.starts) - 1
        assert 0 < num_tokens <= self._info.num_tokens_max and num_rows <= self._info.num_rows_max
        assert 0 < num_sequences <= self._info.num_sequences_max and batch.pages.shape[1] <= self._pages_max
        context, s = self._context, batch.sampling
        self.poison[:num_sequences] = 0  # a step that was interrupted may have left some
        self.token_ids[:num_tokens], self.positions[:num_tokens] = batch.token_ids, batch.positions
        self.starts[: num_sequences + 1] = batch.starts
        self.pages[:num_sequences, : batch.pages.shape[1]] = batch.pages
        numbers = self._sequence_numbers[:num_sequences]
        spread = numbers if num_tokens == num_sequences else np.repeat(numbers, np.diff(batch.starts))
        self.token_sequences[:num_tokens] = spread
        context[Word.TOKENS], context[Word.SEQUENCES] = num_tokens, num_sequences
        context[Word.TOTAL_ROWS], context[Word.ROWS] = num_rows, min(num_rows, ROWS_PANEL)
        context[Word.FIRST_ROW], context[Word.PANEL_ROWS] = 0, context[Word.LOGIT_ROWS]
        context[Word.NUM_TOP] = batch.num_top
        if num_rows:
            self.logit_rows[:num_rows], self.targets[:num_rows] = batch.logit_rows, s.targets
            self.temperature[:num_rows], self.top_k[:num_rows] = s.temperature, s.top_k
            self.top_p[:num_rows], self.min_p[:num_rows], self.uniform[:num_rows] = s.top_p, s.min_p, s.uniform
            self.edit_starts[: num_rows + 1] = s.edit_starts
        self._edits = tuple(np.ascontiguousarray(a) for a in (s.edit_tokens, s.edit_factors, s.edit_deltas))
        for word, array in zip((Word.EDIT_TOKENS, Word.EDIT_FACTORS, Word.EDIT_DELTAS), self._edits, strict=True):
            context[word] = array.ctypes.data
        self._mask = None if s.mask is None else np.ascontiguousarray(s.mask)
        context[Word.MASK] = 0 if self._mask is None else self._mask.ctypes.data

    def read(self, batch: StepBatch) -> StepResult:
        """The step's results, as arrays of their own."""
        num_rows, num_top = len(batch.logit_rows), batch.num_top
        # After a step that streamed all weights, every line of code and data that is touched here comes from memory:
        # lists are cheaper than the machinery of array reductions.
        poison = self.poison[: len(batch.starts) - 1].tolist()
        failed = tuple(at for at, is_poisoned in enumerate(poison) if is_poisoned)
        top_tokens, top_logprobs = self._no_top[0][:num_rows], self._no_top[1][:num_rows]
        if num_top:
            count = num_rows * num_top
            top_tokens = self.out_top_tokens[:count].reshape(num_rows, num_top).copy()
            top_logprobs = self.out_top_logprobs[:count].reshape(num_rows, num_top).copy()
        return StepResult(
            tokens=self.out_tokens[:num_rows].copy(),
            logprobs=self.out_logprobs[:num_rows].copy(),
            finite=self.out_finite[:num_rows].astype(np.bool_),
            top_tokens=top_tokens,
            top_logprobs=top_logprobs,
            failed=failed,
        )


__all__ = ["CpuRuntime", "I32", "RegionTime", "angle_tables"]
