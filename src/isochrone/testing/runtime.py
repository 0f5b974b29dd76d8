"""A runtime without a model, for tests of everything above it: its next token is a hash of all that it reads.

It keeps the token of every position in pages as a real cache does, and reads the whole sequence back through the page
table at each row.  So a page that is missing, stale, swapped or given to two sequences changes the text, and equal
texts mean that the cache was right.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isochrone.runtime.reference_sampling import sample
from isochrone.runtime.step import F32, RuntimeInfo, StepBatch, StepResult

U64 = NDArray[np.uint64]
_MULTIPLIER, _POSITION = np.uint64(0xD1342543DE82EF95), np.uint64(0x9E3779B97F4A7C15)
_VOCAB = np.uint64(0xBF58476D1CE4E5B9)


@dataclass(slots=True)
class SimulatedClock:
    """A clock that moves only when told."""

    at: float = 1000.0

    def __call__(self) -> float:
        return self.at

    def advance(self, seconds: float) -> None:
        self.at += seconds


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong, told by content or by number of step, so that it repeats.

    nan_token    rows of a sequence that holds this token are not finite
    failed_token a sequence that holds this token is reported as failed
    raise_token  a step with a sequence that holds this token raises
    lose_steps   numbers of steps (from 0) that lose the whole cache; sequences that were not in such a step are
                 reported as lost in the next one that they are in
    die_at       the process is killed when a sequence reaches this position, once for each life_file that is absent
    die_token    the process is killed whenever a sequence holds this token
    """

    nan_token: int | None = None
    failed_token: int | None = None
    raise_token: int | None = None
    lose_steps: frozenset[int] = frozenset()
    die_at: int | None = None
    die_token: int | None = None
    life_file: str | None = None


@dataclass(slots=True)
class FakeRuntime:
    """Implements `Runtime`.

    token_s, step_s  what a step costs on `clock`, if there is one: step_s + tokens * token_s
    num_steps, num_tokens, num_rows  what it has done so far
    memory   tokens that the next one depends on, None: all; with few of them, texts repeat themselves
    """

    info: RuntimeInfo
    faults: Faults = Faults()
    clock: SimulatedClock | None = None
    step_s: float = 0.01
    token_s: float = 0.001
    num_steps: int = 0
    num_tokens: int = 0
    batches: list[tuple[int, ...]] = field(default_factory=list)
    memory: int | None = None
    _cells: NDArray[np.int64] = field(init=False)
    _has_lost: bool = False

    def __post_init__(self) -> None:
        self._cells = np.full((self.info.num_pages, self.info.page_tokens), -1, np.int64)

    def step(self, batch: StepBatch) -> StepResult:
        """See `Runtime.step`."""
        self._check(batch)
        self._fall(batch)
        self._write(batch)
        number, self.num_steps = self.num_steps, self.num_steps + 1
        self.num_tokens += len(batch.token_ids)
        self.batches.append(tuple(np.diff(batch.starts).tolist()))
        if self.clock is not None:
            self.clock.advance(self.step_s + self.token_s * len(batch.token_ids))
        logits = np.zeros((len(batch.logit_rows), self.info.vocab_size), np.float32)
        failed, lost = [], []
        for s in range(len(batch.starts) - 1):
            seen = self._seen(batch, s)
            if number in self.faults.lose_steps or (self._has_lost and (seen < 0).any()):
                lost.append(s)
                continue
            if self.faults.failed_token in seen:
                failed.append(s)
            rows = np.flatnonzero((batch.logit_rows >= batch.starts[s]) & (batch.logit_rows < batch.starts[s + 1]))
            if len(rows):
                logits[rows] = self._logits(seen, batch.positions[batch.logit_rows[rows]])
        if number in self.faults.lose_steps:
            self._cells[:] = -1
            self._has_lost = True
        result = sample(logits, batch.sampling, batch.num_top)
        return StepResult(
            result.tokens,
            result.logprobs,
            result.finite,
            result.top_tokens,
            result.top_logprobs,
            tuple(failed),
            tuple(lost),
        )

    def read_pages(self, pages: Sequence[int]) -> NDArray[np.uint8]:
        """See `Runtime.read_pages`."""
        return self._cells[list(pages)].view(np.uint8)

    def write_pages(self, pages: Sequence[int], data: NDArray[np.uint8]) -> None:
        """See `Runtime.write_pages`."""
        self._cells[list(pages)] = np.ascontiguousarray(data).view(np.int64)

    def close(self) -> None:
        """Nothing to give back."""

    def _check(self, batch: StepBatch) -> None:
        """The caller's side of the contract."""
        info, num = self.info, len(batch.starts) - 1
        assert 0 < len(batch.token_ids) <= info.num_tokens_max and 0 < num <= info.num_sequences_max
        assert len(batch.logit_rows) <= info.num_rows_max and len(batch.pages) == num
        assert batch.starts[0] == 0 and batch.starts[-1] == len(batch.token_ids) and (np.diff(batch.starts) > 0).all()
        written: set[int] = set()
        for s in range(num):
            begin, end = batch.starts[s], batch.starts[s + 1]
            positions = batch.positions[begin:end]
            assert (np.diff(positions) == 1).all() and positions[-1] < info.context
            pages = batch.pages[s, : positions[-1] // info.page_tokens + 1]
            assert (pages >= 0).all(), f"sequence {s} writes position {positions[-1]} without a page"
            assert len(set(pages.tolist())) == len(pages), f"sequence {s} has a page twice"
            own = set(pages[positions[0] // info.page_tokens :].tolist())
            assert not own & written, "two sequences write one page"
            written |= own
        assert ((batch.sampling.uniform >= 0) & (batch.sampling.uniform < 1)).all()

    def _fall(self, batch: StepBatch) -> None:
        faults = self.faults
        if faults.raise_token is not None and faults.raise_token in batch.token_ids:
            raise FloatingPointError(f"token {faults.raise_token} cannot be computed")
        if faults.die_token is not None and faults.die_token in batch.token_ids:
            os.kill(os.getpid(), signal.SIGKILL)
        if faults.die_at is not None and faults.life_file is not None and (batch.positions >= faults.die_at).any():
            if not Path(faults.life_file).exists():
                Path(faults.life_file).touch()
                os.kill(os.getpid(), signal.SIGKILL)

    def _write(self, batch: StepBatch) -> None:
        sequences = np.repeat(np.arange(len(batch.starts) - 1), np.diff(batch.starts))
        pages = batch.pages[sequences, batch.positions // self.info.page_tokens]
        self._cells[pages, batch.positions % self.info.page_tokens] = batch.token_ids

    def _seen(self, batch: StepBatch, s: int) -> NDArray[np.int64]:
        """Every token of a sequence, as its page table finds them."""
        num = int(batch.positions[batch.starts[s + 1] - 1]) + 1
        pages = batch.pages[s, : -(-num // self.info.page_tokens)]
        return self._cells[pages].reshape(-1)[:num]

    def _logits(self, seen: NDArray[np.int64], positions: NDArray[np.int32]) -> F32:
        """f32 [rows, vocab], in -8 .. 8, from a hash of the tokens up to each position."""
        terms = _mix((seen + 2).astype(np.uint64) * _MULTIPLIER + np.arange(len(seen), dtype=np.uint64) * _POSITION)
        states = np.cumsum(terms, dtype=np.uint64)[positions]
        if self.memory is not None:
            back = np.arange(self.memory)
            recent = seen[np.maximum(positions[:, None] - back, 0)] + 2
            states = _mix(recent.astype(np.uint64) * _MULTIPLIER + back.astype(np.uint64) * _POSITION).sum(axis=1)
        tokens = np.arange(self.info.vocab_size, dtype=np.uint64) * _VOCAB
        bits = _mix(states[:, None] ^ tokens[None, :]) >> np.uint64(40)
        logits = bits.astype(np.float32) * np.float32(2.0**-20) - np.float32(8)
        if self.faults.nan_token is not None:
            is_poisoned = np.cumsum(seen == self.faults.nan_token)[positions] > 0
            logits[is_poisoned, 0] = np.nan
        return logits


def _mix(x: U64) -> U64:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@dataclass(frozen=True, slots=True)
class FakeTokens:
    """A tokenizer for the fake: the end of the answer, every printable letter, then some longer pieces.

    Fulfils `isochrone.text.grammar.Tokens`.  A text is cut greedily, the longest piece first.
    """

    num_tokens: int = 97
    bos_id: int | None = None
    eos_ids: tuple[int, ...] = (0,)

    def piece(self, id: int) -> bytes:
        pieces = _FAKE_PIECES
        return pieces[id] if id < len(pieces) else b""

    def encode(self, text: str, add_special: bool = True) -> list[int]:
        ids, rest = [], text.encode()
        while rest:
            known = [id for id in range(1, self.num_tokens) if self.piece(id) and rest.startswith(self.piece(id))]
            id = max(known, key=lambda id: len(self.piece(id)))
            ids.append(id)
            rest = rest[len(self.piece(id)) :]
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        return b"".join(map(self.piece, ids)).decode()

    def is_special(self, id: int) -> bool:
        return id == 0

    def id_to_token(self, id: int) -> str | None:
        return "<end>" if id == 0 else self.piece(id).decode()

    def warm(self) -> None:
        """There is nothing to load."""


_FAKE_PIECES = (
    b"", *(bytes([letter]) for letter in range(32, 127)), b"\n", b'{"', b'": "', b'", "', b'"}', b"name", b"true",
    b"false", b"nu", b"ll", b"null", b'": ', b"alpha", b"bet", b"na", b'me": "',
)  # fmt: skip


def load_fake_tokens(**arguments: int | str | None) -> FakeTokens:
    """What an engine process calls for the tokenizer of the fake: `isochrone.testing.runtime:load_fake_tokens`."""
    vocab_size = arguments.get("vocab_size")
    return FakeTokens(vocab_size if isinstance(vocab_size, int) else 97)


def fake_info(
    *, vocab_size: int = 97, context: int = 256, page_tokens: int = 8, num_pages: int = 64, num_tokens_max: int = 64,
    num_sequences_max: int = 16, num_rows_max: int = 64,
) -> RuntimeInfo:  # fmt: skip
    """The facts of a small fake."""
    return RuntimeInfo(
        vocab_size, context, page_tokens, num_pages, num_tokens_max, num_sequences_max, num_rows_max, "fake", "i64",
        page_bytes=8 * page_tokens,
    )


def load_fake(
    *, die_at: int | None = None, die_token: int | None = None, life_file: str | None = None,
    nan_token: int | None = None, raise_token: int | None = None, raise_on_load: bool = False, **facts: int,
) -> FakeRuntime:  # fmt: skip
    """What an engine process calls in tests: `isochrone.testing.runtime:load_fake`."""
    if raise_on_load:
        raise OSError("the fake was told not to load")
    faults = Faults(nan_token, raise_token=raise_token, die_at=die_at, die_token=die_token, life_file=life_file)
    return FakeRuntime(fake_info(**facts), faults)
