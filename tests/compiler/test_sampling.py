"""Sampling: greedy, cuts and draws agree with float64 over the whole vocabulary, and every bit is reproducible."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from isochrone.compiler import sampling
from isochrone.compiler.codegen import count_spills
from isochrone.compiler.isa import Target, available_targets
from isochrone.compiler.sampling import VOCAB_BLOCK, Sample
from isochrone.compiler.table import Word

from .harness import ALL_TARGETS, Bench, assembly, assert_same_bits, same_bits_interpreted, table

EVERY_TARGET = pytest.mark.parametrize("target", ALL_TARGETS)
VOCAB = 700
OUTPUTS = ("tokens", "logprobs", "finite", "top_tokens", "top_logprobs")


@dataclass(frozen=True)
class Ask:
    """What the rows of a step ask for; every row the same, but for its uniform number."""

    logits: np.ndarray
    uniform: np.ndarray
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    target: int = -1
    num_top: int = 0
    edits: tuple[tuple[int, float, float], ...] = ()
    allowed: tuple[int, ...] | None = None


def ask(num_rows: int = 32, seed: int = 0, vocab: int = VOCAB, **options: object) -> Ask:
    random = np.random.default_rng(seed)
    logits = np.tile((random.standard_normal(vocab) * 2).astype(np.float32), (num_rows, 1))
    return Ask(logits, ((np.arange(num_rows) + 0.5) / num_rows).astype(np.float32), **options)  # type: ignore[arg-type]


def prepare(asked: Ask) -> Bench:
    rows, vocab = asked.logits.shape
    width = -(-vocab // VOCAB_BLOCK) * VOCAB_BLOCK
    logits = np.full((rows, width), 1e30, np.float32)  # padding that would win
    logits[:, :vocab] = asked.logits
    edits = np.array(asked.edits * rows, np.float32).reshape(-1, 3)
    bits = np.zeros((rows, -(-vocab // 32) * 32), np.uint8)
    bits[:, list(asked.allowed or ())] = 1
    top = max(asked.num_top, 1)
    arrays = {
        "logits": logits, "work": np.zeros_like(logits), "uniform": asked.uniform,
        "temperature": np.full(rows, asked.temperature, np.float32), "top_k": np.full(rows, asked.top_k, np.int32),
        "top_p": np.full(rows, asked.top_p, np.float32), "min_p": np.full(rows, asked.min_p, np.float32),
        "targets": np.full(rows, asked.target, np.int32),
        "edit_starts": np.arange(rows + 1, dtype=np.int32) * len(asked.edits),
        "edit_tokens": edits[:, 0].astype(np.int32), "edit_factors": edits[:, 1], "edit_deltas": edits[:, 2],
        "mask": np.packbits(bits, axis=1, bitorder="little"),
        "tokens": np.zeros(rows, np.int32), "logprobs": np.zeros(rows, np.float32), "finite": np.zeros(rows, np.int32),
        "top_tokens": np.full((rows, top), -1, np.int32), "top_logprobs": np.zeros((rows, top), np.float32),
    }  # fmt: skip
    ctx = {
        Word.FIRST_ROW: 0, Word.NUM_TOP: asked.num_top, Word.TEMPERATURE: "temperature", Word.TOP_K: "top_k",
        Word.TOP_P: "top_p", Word.MIN_P: "min_p", Word.UNIFORM: "uniform", Word.TARGETS: "targets",
        Word.EDIT_STARTS: "edit_starts", Word.EDIT_TOKENS: "edit_tokens", Word.EDIT_FACTORS: "edit_factors",
        Word.EDIT_DELTAS: "edit_deltas", Word.MASK: 0 if asked.allowed is None else "mask", Word.OUT_TOKENS: "tokens",
        Word.OUT_LOGPROBS: "logprobs", Word.OUT_FINITE: "finite", Word.OUT_TOP_TOKENS: "top_tokens",
        Word.OUT_TOP_LOGPROBS: "top_logprobs",
    }  # fmt: skip
    args = {sampling.LOGITS: "logits", sampling.ROW_BYTES: 4 * width, sampling.VOCAB: vocab, sampling.WORK: "work"}
    return Bench(arrays, table(args), table(ctx))


def sample(asked: Ask, target: Target) -> dict[str, np.ndarray]:
    bench = prepare(asked)
    bench.run(Sample(), target, len(asked.logits), "tokens")
    return {name: bench.arrays[name] for name in OUTPUTS}


# --- the meaning, in float64 ------------------------------------------------------------------------------------------


def edited(asked: Ask) -> np.ndarray:
    """f64 [vocab]: the logits of a row after edits and mask."""
    logits = asked.logits[0].astype(np.float64)
    for token, factor, delta in asked.edits:
        logits[token] = (logits[token] / factor if logits[token] > 0 else logits[token] * factor) + delta
    if asked.allowed is not None:
        logits[[t for t in range(len(logits)) if t not in asked.allowed]] = -np.inf
    return logits


def probabilities(asked: Ask) -> np.ndarray:
    """f64 [vocab] after temperature and cuts; what is cut is zero."""
    logits = edited(asked) / asked.temperature
    weights = np.exp(logits - logits.max())
    if asked.top_k:
        weights[weights < np.sort(weights)[-asked.top_k]] = 0
    if asked.top_p < 1:
        order = np.argsort(-weights)
        mass = np.cumsum(weights[order])
        weights[order[1 + np.searchsorted(mass, asked.top_p * mass[-1]) :]] = 0
    weights[weights < asked.min_p] = 0
    return weights / weights.sum()


def log_softmax(logits: np.ndarray) -> np.ndarray:
    wide = logits.astype(np.float64)
    return (
        wide - wide.max(-1, keepdims=True) - np.log(np.exp(wide - wide.max(-1, keepdims=True)).sum(-1, keepdims=True))
    )


CASES = {
    "plain": {},
    "cold": {"temperature": 0.3},
    "hot": {"temperature": 2.5},
    "top_k": {"top_k": 7},
    "top_k of one": {"top_k": 1},
    "top_p": {"top_p": 0.8},
    "tiny top_p": {"top_p": 1e-6},
    "min_p": {"min_p": 0.2},
    "all cuts": {"top_k": 40, "top_p": 0.9, "min_p": 0.05, "temperature": 0.8},
    "edits": {"edits": ((3, 1.5, 0.0), (699, 1.0, 9.0), (5, 1.0, -100.0))},
    "mask": {"allowed": (0, 31, 32, 300, 699)},
    "mask of one": {"allowed": (256,)},
    "mask and cuts": {"allowed": tuple(range(0, 700, 3)), "top_p": 0.5, "edits": ((6, 1.0, 5.0),)},
}


@EVERY_TARGET
@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_a_draw_inverts_the_cumulative_distribution(options: dict[str, object], target: Target) -> None:
    asked = ask(64, **options)
    tokens = sample(asked, target)["tokens"]
    chances = probabilities(asked)
    after = np.cumsum(chances)
    goal = asked.uniform.astype(np.float64)
    assert (chances[tokens] > 0).all()
    assert (after[tokens] >= goal - 1e-5).all() and (after[tokens] - chances[tokens] <= goal + 1e-5).all()


@EVERY_TARGET
@pytest.mark.parametrize("options", [{}, *CASES.values()], ids=["nothing", *CASES])
def test_without_temperature_the_likeliest_allowed_token_is_taken(options: dict[str, object], target: Target) -> None:
    asked = ask(2, **{**options, "temperature": 0.0})
    assert (sample(asked, target)["tokens"] == edited(asked).argmax()).all()


@EVERY_TARGET
def test_of_equal_logits_the_first_is_taken(target: Target) -> None:
    asked = ask(1, temperature=0.0)
    asked.logits[:, [77, 400, 93]] = 50
    assert sample(asked, target)["tokens"] == 77


@EVERY_TARGET
def test_log_probabilities_are_those_of_the_unedited_logits(target: Target) -> None:
    asked = ask(16, top_k=3, temperature=0.7, edits=((3, 1.0, 4.0),))
    got = sample(asked, target)
    np.testing.assert_allclose(got["logprobs"], log_softmax(asked.logits)[np.arange(16), got["tokens"]], atol=2e-6)
    forced = sample(replace(asked, target=123), target)
    assert (forced["tokens"] == 123).all()
    np.testing.assert_allclose(forced["logprobs"], log_softmax(asked.logits)[:, 123], atol=2e-6)


@EVERY_TARGET
def test_alternatives_come_in_order_and_equal_ones_by_index(target: Target) -> None:
    asked = ask(2, num_top=12)
    asked.logits[:, [600, 8, 301]] = 11.5
    got = sample(asked, target)
    order = np.argsort(-asked.logits[0], kind="stable")[:12]
    assert (got["top_tokens"] == order).all() and order[:3].tolist() == [8, 301, 600]
    np.testing.assert_allclose(got["top_logprobs"], log_softmax(asked.logits)[:, order], atol=2e-6)


@EVERY_TARGET
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_is_reported_and_its_token_stays_in_the_vocabulary(bad: float, target: Target) -> None:
    asked = ask(3)
    asked.logits[1, 699] = bad
    asked.logits[2] = np.nan
    got = sample(asked, target)
    assert got["finite"].tolist() == [1, 0, 0]
    assert ((got["tokens"] >= 0) & (got["tokens"] < VOCAB)).all()


@EVERY_TARGET
@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-24])
@pytest.mark.parametrize("vocab", [1, 255, 256, 257])
def test_the_ends_of_the_unit_interval_draw_a_token(vocab: int, uniform: float, target: Target) -> None:
    asked = ask(1, vocab=vocab)
    asked = replace(asked, uniform=np.array([uniform], np.float32))
    token = int(sample(asked, target)["tokens"][0])
    assert 0 <= token < vocab and (uniform or token == 0)


@EVERY_TARGET
def test_a_row_draws_the_same_whatever_rows_surround_it(target: Target) -> None:
    asked = ask(20, top_p=0.9, temperature=0.9)
    whole = sample(asked, target)["tokens"]
    for row in range(20):
        alone = replace(asked, logits=asked.logits[row : row + 1], uniform=asked.uniform[row : row + 1])
        assert sample(alone, target)["tokens"] == whole[row]


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_every_instruction_set_gives_the_same_bits(options: dict[str, object]) -> None:
    first, *others = [sample(ask(8, num_top=3, **options), target) for target in available_targets()]
    for other in others:
        for name in OUTPUTS:
            assert_same_bits(first[name], other[name])


@EVERY_TARGET
def test_the_interpreter_has_the_bits_of_compiled_code(target: Target) -> None:
    allowed, edits = tuple(range(0, 300, 2)), ((4, 1.2, 0.5),)
    asked = ask(2, vocab=300, num_top=2, top_k=20, top_p=0.9, min_p=0.01, edits=edits, allowed=allowed)
    for name in OUTPUTS:
        same_bits_interpreted(prepare(asked), Sample(), target, 2, name)


@EVERY_TARGET
def test_no_register_is_spilled(target: Target) -> None:
    assert count_spills(assembly(Sample(), target)) <= (0 if target.registers >= 32 else 8)
