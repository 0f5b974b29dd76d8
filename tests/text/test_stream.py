"""Tokens become text as they come, whatever they are and however they are split."""

from __future__ import annotations

import unicodedata
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isochrone.text import StreamDecoder, Tokenizer, load_tokenizer
from tests.text import samples
from tests.text.samples import TEXTS

KINDS: dict[str, Any] = {
    "bytes": samples.byte_level,
    "marks": samples.marks,
    "marks without prefix": lambda: samples.marks(prefix=False),
    "unigram": samples.unigram,
    "wordpiece": samples.wordpiece,
}


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = tmp_path_factory.mktemp("tokenizer")
    return load_tokenizer(samples.write_directory(path, KINDS[request.param]()))


def stream(tokenizer: Tokenizer, ids: list[int], cuts: list[int], **options: bool) -> list[str]:
    decoder = StreamDecoder(tokenizer, **options)
    edges = [0, *sorted(min(cut, len(ids)) for cut in cuts), len(ids)]
    texts = [decoder.push(ids[start:stop]) for start, stop in pairwise(edges)]
    return [*texts, decoder.finish()]


def test_any_ids_split_anyhow_stream_to_the_text_of_all(tokenizer):
    ids = st.lists(st.integers(-3, tokenizer.num_tokens + 3), max_size=60)

    @settings(max_examples=300, deadline=None)
    @given(ids, st.lists(st.integers(0, 60), max_size=12), st.booleans())
    def same(ids: list[int], cuts: list[int], skip_special: bool) -> None:
        whole = tokenizer.decode(ids, skip_special=skip_special)
        assert "".join(stream(tokenizer, ids, cuts, skip_special=skip_special)) == whole
        assert "".join(stream(tokenizer, ids, list(range(60)), skip_special=skip_special)) == whole

    same()


@pytest.mark.parametrize("text", TEXTS)
def test_a_whole_text_never_streams_half_a_character(tokenizer, text):
    ids = tokenizer.encode(text, add_special=False)
    shown = stream(tokenizer, ids, list(range(len(ids))))
    whole = tokenizer.decode(ids)
    assert "\ufffd" not in "".join(shown)
    assert shown[-1] == ""
    assert "".join(shown) == whole


@pytest.mark.parametrize("kind", ["bytes", "marks", "marks without prefix"])
@pytest.mark.parametrize("text", TEXTS)
def test_lossless_tokenizers_give_back_the_very_text(kind, text, tmp_path):
    tokenizer = load_tokenizer(samples.write_directory(tmp_path, KINDS[kind]()))
    if kind != "bytes" and any(mark in text for mark in ("▁", "</s>", "<0x41>")):
        return  # such a text is spelled with the tokenizer's own marks
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_an_answer_that_goes_on_after_a_prompt_keeps_its_first_space():
    tokenizer = load_tokenizer(
        samples.gguf_metadata(samples.marks(), model="llama", scores=[0.0] * samples.marks().get_vocab_size())
    )
    space = tokenizer.token_to_id("▁")
    assert space is not None
    assert "".join(stream(tokenizer, [space, space], [1])) == " "
    assert "".join(stream(tokenizer, [space, space], [1], continuing=True)) == "  "


def test_a_character_waits_for_its_last_byte_and_a_broken_one_is_marked():
    tokenizer = load_tokenizer(samples.gguf_metadata(samples.byte_level(), model="gpt2", pre="gpt-2"))
    letters = {tokenizer.piece(id): id for id in range(tokenizer.num_tokens) if len(tokenizer.piece(id)) == 1}
    rocket = [letters[bytes([byte])] for byte in "🚀".encode()]
    decoder = StreamDecoder(tokenizer)
    assert [decoder.push([id]) for id in rocket] == ["", "", "", "🚀"]
    assert decoder.push(rocket[:3]) == ""
    assert decoder.push([letters[b"a"]]) == "\ufffda"
    assert decoder.push(rocket[:2]) + decoder.finish() == "\ufffd"


def test_each_token_is_looked_at_once(monkeypatch):
    tokenizer = load_tokenizer(samples.gguf_metadata(samples.byte_level(), model="gpt2", pre="gpt-2"))
    looked: list[int] = []
    piece = tokenizer.piece
    monkeypatch.setattr(tokenizer, "piece", lambda id: looked.append(id) or piece(id))
    ids = tokenizer.encode(unicodedata.normalize("NFD", "".join(TEXTS)))
    stream(tokenizer, ids, list(range(len(ids))))
    assert looked == [id for id in ids if not tokenizer.is_special(id)]
