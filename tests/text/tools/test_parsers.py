"""Answers are read alike however they are cut, and nothing that a model writes is lost or breaks a parser."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.text.tools import Called, Parser, Piece, Said, Thought
from isochrone.text.tools.pieces import joined
from tests.text.tools.golden import BONN, GOLDEN, HARMONY, HERMES, NAMES, Golden

MARKUP = sorted({mark for golden in GOLDEN for mark in golden.dialect.marks} | {'{"name": "now", ', '"arguments": {'})
SCRAPS = st.lists(st.sampled_from(MARKUP) | st.text(alphabet='{}[]":,a<|> \n\\', max_size=6), max_size=8).map("".join)


def read(parser: Parser, parts: list[str]) -> list[Piece]:
    pieces = [piece for part in parts for piece in parser.push(part)]
    return joined(pieces + parser.finish())


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden.id)
def test_an_answer_is_words_thoughts_and_calls(golden: Golden) -> None:
    assert read(golden.parser(), [golden.text]) == golden.pieces


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden.id)
def test_letter_by_letter_it_is_the_same(golden: Golden) -> None:
    assert read(golden.parser(), list(golden.text)) == golden.pieces


@given(st.sampled_from(GOLDEN), st.data())
def test_however_it_is_cut_it_is_the_same(golden: Golden, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(golden.text)), max_size=6)))
    edges = [0, *cuts, len(golden.text)]
    parts = [golden.text[start:end] for start, end in pairwise(edges)]
    assert read(golden.parser(), parts) == golden.pieces


@given(st.sampled_from(GOLDEN), SCRAPS, st.lists(st.integers(0, 60), max_size=5))
def test_any_text_is_read_alike_however_it_is_cut(golden: Golden, text: str, cuts: list[int]) -> None:
    edges = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    parts = [text[start:end] for start, end in pairwise(edges)]
    assert read(golden.parser(), parts) == read(golden.parser(), [text])


@given(st.sampled_from(GOLDEN), SCRAPS)
def test_calls_are_numbered_and_named_once_and_only_for_tools_that_were_offered(golden: Golden, text: str) -> None:
    num_calls = 0
    parser = golden.parser()
    for piece in [piece for letter in text for piece in parser.push(letter)] + parser.finish():
        if isinstance(piece, Called) and piece.name:
            assert piece.index == num_calls and piece.name in NAMES
            num_calls += 1
        elif isinstance(piece, Called):
            assert piece.index == num_calls - 1 and piece.arguments


@given(st.text(alphabet="abc é\n.<", max_size=40))
def test_words_are_kept_to_the_letter(text: str) -> None:
    parser = HERMES.parser(NAMES, "no")
    assert parser is not None
    assert "".join(piece.text for piece in read(parser, [text]) if isinstance(piece, Said)) == text


def test_a_call_is_announced_at_its_name_and_its_arguments_come_as_they_are_written() -> None:
    parser = HERMES.parser(NAMES, "no")
    assert parser is not None
    assert parser.push('<tool_call>\n{"name": "get_weather"') == [Called(0, "get_weather")]
    assert parser.push(', "arguments": {"ci') == [Called(0, arguments='{"ci')]
    assert parser.num_held == 0
    assert parser.push('ty": "Bonn"}}\n') == [Called(0, arguments='ty": "Bonn"}')]


def test_words_are_not_held_back_longer_than_they_could_be_markup() -> None:
    parser = HERMES.parser(NAMES, "no")
    assert parser is not None
    assert parser.push("It is <tool") == [Said("It is")] and parser.num_held == len(" <tool")
    assert parser.push("box>") == [Said(" <toolbox>")] and parser.num_held == 0


def test_thinking_is_known_while_it_lasts() -> None:
    parser = HARMONY.parser(NAMES, "no")
    assert parser is not None
    parser.push("<|channel|>analysis<|message|>Hm")
    assert parser.is_thinking
    assert parser.push("m<|end|>") == [Thought("m")] and not parser.is_thinking


def test_what_was_read_as_a_call_parses() -> None:
    for golden in GOLDEN:
        if "cut" in golden.id:
            continue
        for piece in read(golden.parser(), [golden.text]):
            if isinstance(piece, Called):
                assert isinstance(json.loads(piece.arguments), dict)


def test_without_tools_a_call_is_words() -> None:
    assert HERMES.parser(frozenset(), "no") is None
    harmony = HARMONY.parser(frozenset(), "no")
    assert harmony is not None
    text = f"<|channel|>commentary to=functions.get_weather<|message|>{BONN}<|call|>"
    assert read(harmony, [text]) == [Said(BONN)]
