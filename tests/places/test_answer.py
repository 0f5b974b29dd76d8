"""However an engine's tokens are split over steps, the caller sees the same text, scores and end."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import strategies as st

from isochrone.engine import records
from isochrone.places.answer import AnswerText
from isochrone.places.place import Delta
from isochrone.text import Tokenizer, load_tokenizer
from tests.gateway.scripted import write_tokenizer

ALPHABET = "ab é🙂日 n"
TEXTS = st.text(alphabet=ALPHABET, min_size=1, max_size=30)


@cache
def tokenizer() -> Tokenizer:
    with TemporaryDirectory() as directory:
        return load_tokenizer(write_tokenizer(Path(directory)))


def answer(ids: list[int], cuts: list[int], stops: tuple[str, ...], reason: str = "length") -> list[Delta]:
    """The deltas of one answer whose tokens come in steps cut at `cuts`."""
    text = AnswerText(tokenizer(), 0, stops, continuing=True, with_scores=True)
    edges = sorted({0, len(ids), *(cut % (len(ids) + 1) for cut in cuts)})
    deltas = []
    for start, end in pairwise(edges):
        part = ids[start:end]
        finish = reason if end == len(ids) else None
        step = records.Delta(0, part, logprobs=[-float(id) for id in part], finish_reason=finish)  # type: ignore[arg-type]
        deltas.append(text.push(step))
        if text.is_done:
            break
    return deltas


def joined(deltas: list[Delta]) -> str:
    return "".join(delta.text for delta in deltas)


@given(TEXTS, st.lists(st.integers(0, 99), max_size=8))
def test_the_text_does_not_depend_on_the_steps(text: str, cuts: list[int]) -> None:
    ids = tokenizer().encode(text)
    deltas = answer(ids, cuts, ())
    assert joined(deltas) == text
    assert [scored.logprob for delta in deltas for scored in delta.scored] == [-float(id) for id in ids]
    assert deltas[-1].finish_reason == "length" and sum(delta.num_tokens for delta in deltas) == len(ids)


@given(TEXTS, st.text(alphabet=ALPHABET, min_size=1, max_size=3), st.lists(st.integers(0, 99), max_size=8))
def test_a_stop_string_cuts_at_its_first_place_and_nothing_of_it_is_seen(text: str, stop: str, cuts: list[int]) -> None:
    deltas = answer(tokenizer().encode(text), cuts, (stop,))
    assert joined(deltas) == text.split(stop)[0]
    assert deltas[-1].finish_reason == ("stop" if stop in text else "length")
    raw = b"".join(scored.raw for delta in deltas for scored in delta.scored)
    assert text.split(stop)[0].encode().startswith(raw)


@given(TEXTS, st.lists(st.integers(0, 99), max_size=8))
def test_scores_come_no_earlier_than_their_text(text: str, cuts: list[int]) -> None:
    shown = scored = b""
    for delta in answer(tokenizer().encode(text), cuts, ("never here",)):
        shown += delta.text.encode()
        scored += b"".join(token.raw for token in delta.scored)
        assert shown.startswith(scored)


def test_a_deadline_cuts_as_a_length_does() -> None:
    assert answer(tokenizer().encode("ab"), [], (), "deadline")[-1].finish_reason == "length"


def test_half_a_character_at_the_end_is_said_to_be_one() -> None:
    ids = tokenizer().encode("🙂")
    assert joined(answer(ids[:2], [1], ())) == "\ufffd"
