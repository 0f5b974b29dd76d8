"""Encoding against the library, transformers and sentencepiece, by both roads: merged from the table, and loaded."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Library

from isochrone.errors import BadModel
from isochrone.text import Tokenizer, load_tokenizer
from isochrone.text.pretokenizers import _BY_NAME
from tests.text import samples
from tests.text.samples import TEXTS

CUTS = ("gpt-2", "smollm", "llama-bpe", "qwen2", "falcon")
MIXED = [f"{text}<|im_start|>{text}<tool> <wide>  {text}<|im_end|>" for text in TEXTS]
KINDS: dict[str, Any] = {
    **{cut: lambda cut=cut: samples.byte_level(cut, nfc=cut == "qwen2") for cut in CUTS},
    "marks": samples.marks,
    "marks without prefix": lambda: samples.marks(prefix=False),
    "unigram": samples.unigram,
    "wordpiece": samples.wordpiece,
}


def both_roads(tokenizer: Tokenizer, text: str) -> list[int]:
    """The ids, once the two ways to get them agree."""
    tokenizer._num_chars_merged = 0
    merged = tokenizer.encode(text)
    tokenizer.warm()
    assert tokenizer.encode(text) == merged
    return merged


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tokenizers")


def from_directory(directory: Path, kind: str) -> tuple[Tokenizer, Library]:
    library = KINDS[kind]()
    return load_tokenizer(samples.write_directory(directory / kind, library)), library


@pytest.mark.parametrize("kind", KINDS)
def test_a_directory_encodes_and_decodes_as_transformers_does(directory, kind):
    from transformers import PreTrainedTokenizerFast

    ours, _ = from_directory(directory, kind)
    theirs = PreTrainedTokenizerFast(tokenizer_file=str(directory / kind / "tokenizer.json"))
    for text in (*TEXTS, *MIXED):
        ids = theirs.encode(text)
        assert both_roads(ours, text) == ids
        for skip in (True, False):
            want = theirs.decode(ids, skip_special_tokens=skip, clean_up_tokenization_spaces=False)
            assert ours.decode(ids, skip_special=skip) == want
    assert [ours.id_to_token(i) for i in range(len(theirs))] == theirs.convert_ids_to_tokens(range(len(theirs)))


@pytest.mark.parametrize("kind", [*CUTS, "marks", "marks without prefix"])
def test_merging_from_the_table_equals_loading_the_vocabulary_for_any_text(directory, kind):
    ours, library = from_directory(directory, kind)
    alphabet = st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from("aeiou st\n▁Ġ'0123456789"))
    pieces = st.sampled_from(["<|im_start|>", "<tool>", " <wide> ", "<s>", "<0x41>", *TEXTS])

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(st.one_of(st.text(alphabet, max_size=40), pieces), max_size=6).map("".join), st.booleans())
    def same(text: str, add_special: bool) -> None:
        ours._num_chars_merged = 0
        assert ours.encode(text, add_special) == library.encode(text, add_special_tokens=add_special).ids

    same()


@pytest.mark.parametrize("cut", CUTS)
def test_a_byte_level_tokenizer_is_rebuilt_from_gguf_metadata(cut):
    library = samples.byte_level(cut, nfc=cut == "qwen2")
    ours = load_tokenizer(samples.gguf_metadata(library, model="gpt2", pre=cut, add_bos_token=False))
    for text in (*TEXTS, *(text.replace("<wide>", "") for text in MIXED)):  # GGUF keeps no lstrip, rstrip
        ids = library.encode(text).ids
        assert both_roads(ours, text) == ids
        assert ours.decode(ids) == library.decode(ids)


def test_wordpiece_is_rebuilt_from_gguf_metadata():
    library = samples.wordpiece()
    metadata = samples.gguf_metadata(library, model="bert", unknown_token_id=1, bos_token_id=2, seperator_token_id=3)
    phantom = [t if t.startswith("[") and t.endswith("]") and len(t) > 2 else t[2:] if t.startswith("##") else f"▁{t}"
               for t in metadata["tokenizer.ggml.tokens"]]  # fmt: skip
    ours = load_tokenizer({**metadata, "tokenizer.ggml.tokens": phantom})
    for text in TEXTS:
        ids = library.encode(text).ids
        assert ours.encode(text) == ids
        assert ours.decode(ids) == library.decode(ids)


def sentencepiece_model(kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(samples.corpus()), model_writer=out, vocab_size=1000, model_type=kind,
        hard_vocab_limit=False, user_defined_symbols=["<tool>"], character_coverage=0.99, minloglevel=2, num_threads=1,
        **options,
    )  # fmt: skip
    return out.getvalue()


SENTENCEPIECE = {
    "bpe": {"byte_fallback": True, "normalization_rule_name": "identity", "remove_extra_whitespaces": False},
    "unigram": {"normalization_rule_name": "nmt_nfkc"},
}


@pytest.mark.parametrize("prefix", [True, False])
@pytest.mark.parametrize("kind", SENTENCEPIECE)
def test_a_sentencepiece_model_encodes_and_decodes_as_sentencepiece_does(tmp_path, kind, prefix):
    model = sentencepiece_model(kind, add_dummy_prefix=prefix, **SENTENCEPIECE[kind])
    theirs = sentencepiece.SentencePieceProcessor(model_proto=model)
    (tmp_path / "tokenizer.model").write_bytes(model)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"add_bos_token": False, "add_eos_token": False}))
    ours = load_tokenizer(tmp_path)
    for text in TEXTS:
        if "</s>" in text or (kind == "unigram" and text == "a" * 300):
            continue  # sentencepiece reads no control tokens in text; unigram splits of equal worth may differ
        ids = theirs.encode(text)
        assert both_roads(ours, text) == ids, text
        if theirs.unk_id() not in ids:
            assert ours.decode(ids) == theirs.decode(ids)


@pytest.mark.parametrize("kind", ["llama", "t5"])
def test_gguf_scores_lead_to_the_tokens_of_sentencepiece(kind):
    from isochrone.text.sentencepiece_model import metadata_from_sentencepiece

    name = {"llama": "bpe", "t5": "unigram"}[kind]
    model = sentencepiece_model(name, **SENTENCEPIECE[name])
    theirs = sentencepiece.SentencePieceProcessor(model_proto=model)
    metadata = metadata_from_sentencepiece(model, "a model")
    assert metadata["tokenizer.ggml.model"] == kind
    ours = load_tokenizer({**metadata, "tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.add_eos_token": True})
    for text in TEXTS[:20]:
        assert ours.encode(text) == [theirs.bos_id(), *theirs.encode(text), theirs.eos_id()]
        assert ours.encode(text, add_special=False) == theirs.encode(text)


def test_what_goes_around_a_text_follows_the_file_and_else_the_kind():
    bytes_ = samples.gguf_metadata(samples.byte_level(), model="gpt2", bos_token_id=1, eos_token_id=2)

    def ids(**facts: Any) -> list[int]:
        return load_tokenizer({**bytes_, **{f"tokenizer.ggml.{name}": fact for name, fact in facts.items()}}).encode("")

    assert ids(pre="gpt-2") == []
    assert ids(pre="llama-bpe") == [1]
    assert ids(pre="llama-bpe", add_bos_token=False) == []
    assert ids(pre="gpt-2", add_bos_token=True, add_eos_token=True) == [1, 2]
    marked = samples.gguf_metadata(samples.marks(), model="llama", scores=[0.0] * samples.marks().get_vocab_size())
    assert load_tokenizer(marked).encode("") == [1]


def test_every_token_that_ends_a_turn_is_known_and_control_tokens_are_single_ids():
    metadata = samples.gguf_metadata(samples.byte_level(), model="gpt2", pre="gpt-2", bos_token_id=1, eos_token_id=0)
    tokenizer = load_tokenizer(metadata)
    assert tokenizer.bos_id == 1
    assert tokenizer.eos_ids == (0, 2)
    assert tokenizer.named_tokens == {"bos_token": "<|im_start|>", "eos_token": "<|end|>"}
    assert tokenizer.encode("<|im_start|><|im_end|>") == [1, 2]
    assert tokenizer.token_to_id("<|im_end|>") == 2
    assert tokenizer.token_to_id("no such token") is None
    assert tokenizer.id_to_token(10**6) is None


def test_the_older_vocabulary_files_do_where_their_class_says_how_words_split(tmp_path):
    library = samples.byte_level()
    form = json.loads(library.to_str())
    (tmp_path / "vocab.json").write_text(json.dumps(form["model"]["vocab"]))
    merges = "\n".join(" ".join(merge) for merge in form["model"]["merges"])
    (tmp_path / "merges.txt").write_text(f"#version: 0.2\n{merges}\n", "utf-8")
    added = {str(a["id"]): {"content": a["content"], "special": a["special"]} for a in form["added_tokens"]}
    config = {"tokenizer_class": "GPT2Tokenizer", "added_tokens_decoder": added, "eos_token": "<|im_end|>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    ours = load_tokenizer(tmp_path)
    for text in TEXTS:
        assert both_roads(ours, text) == library.encode(text).ids
    assert ours.eos_ids == (2,)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "OwnTokenizer"}))
    with pytest.raises(BadModel, match="OwnTokenizer"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("name", _BY_NAME)
def test_every_pre_tokenizer_keeps_every_byte_of_a_text(name):
    metadata = samples.gguf_metadata(samples.byte_level(), model="gpt2", pre=name, add_bos_token=False)
    tokenizer = load_tokenizer(metadata)
    for text in TEXTS:
        composed = __import__("unicodedata").normalize("NFC", text) if _BY_NAME[name].nfc else text
        assert tokenizer.decode(both_roads(tokenizer, text)) == composed


def test_an_unknown_pre_tokenizer_is_refused_by_name():
    with pytest.raises(BadModel, match="'brand-new'"):
        load_tokenizer(samples.gguf_metadata(samples.byte_level(), model="gpt2", pre="brand-new"))


def test_the_real_model_gives_the_known_ids_of_its_anchors(smollm2):
    ids = both_roads(smollm2, samples.DATA.read_text("utf-8"))
    assert (len(ids), ids[:8]) == (4867, [3717, 446, 6356, 2067, 5131, 46, 446, 3717])
    assert both_roads(smollm2, "The history of the steam engine") == [504, 1463, 282, 260, 9403, 2327]
    question = [65, 42, 1812, 314, 260, 3575, 282, 4649, 47, 198, 49, 42]
    assert both_roads(smollm2, "Q: What is the capital of France?\nA:") == question
    assert both_roads(smollm2, "def fibonacci(n):\n    ") == [1604, 3987, 46477, 24, 94, 727, 2367]
    assert smollm2.eos_ids[0] == 2
    assert smollm2.decode(ids) == samples.DATA.read_text("utf-8")


def test_the_real_model_agrees_with_transformers_on_every_script(smollm2_path, smollm2):
    gguf = pytest.importorskip("gguf")
    from tokenizers import decoders, models
    from transformers import PreTrainedTokenizerFast

    fields = gguf.GGUFReader(smollm2_path).fields
    tokens, merges = (fields[f"tokenizer.ggml.{name}"].contents() for name in ("tokens", "merges"))
    library = Library(
        models.BPE({token: i for i, token in enumerate(tokens)}, [tuple(merge.split(" ")) for merge in merges])
    )
    library.pre_tokenizer, library.decoder = samples.cutter("smollm"), decoders.ByteLevel()
    theirs = PreTrainedTokenizerFast(tokenizer_object=library, additional_special_tokens=tokens[:17])
    for text in (*TEXTS, *MIXED):
        ids = theirs.encode(text)
        assert both_roads(smollm2, text) == ids
        assert smollm2.decode(ids) == theirs.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
