"""The Python face over a runtime without a model: streaming, stopping, deadlines, and books that balance."""

import pytest
from tokenizers import Tokenizer as Library
from tokenizers import models, pre_tokenizers

import isochrone
from isochrone.api.model import Model
from isochrone.engine.local import LocalEngine
from isochrone.errors import BadConfig, BadRequest, ContextTooLong, NotFound
from isochrone.runtime.step import RuntimeInfo
from isochrone.testing.runtime import FakeRuntime
from isochrone.text import load_tokenizer

LETTERS = "abcdefghijklmnopqrstuvwxyz "


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tokenizer")
    vocabulary = {letter.replace(" ", "Ġ"): id for id, letter in enumerate(LETTERS)}
    library = Library(models.BPE(vocab=vocabulary, merges=[]))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    from tokenizers import decoders

    library.decoder = decoders.ByteLevel()
    library.save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    return load_tokenizer(directory)


@pytest.fixture
def model(tokenizer):
    info = RuntimeInfo(
        vocab_size=len(LETTERS), context=128, page_tokens=8, num_pages=64, num_tokens_max=32, num_sequences_max=4,
        num_rows_max=32, plan_hash="test", kv_type="bf16",
    )  # fmt: skip
    runtime = FakeRuntime(info)
    engine = LocalEngine(runtime)
    with Model("small", tokenizer, engine, runtime) as model:
        yield model
    stats = engine.stats
    assert stats.num_running == stats.num_waiting == stats.num_pages_held == 0, "the books do not balance"


def test_the_stream_is_the_completion_piece_by_piece(model):
    whole = model.complete("hello", max_tokens=20)
    stream = model.stream("hello", max_tokens=20)
    pieces = list(stream)
    assert "".join(pieces) == whole.text == stream.read().text
    assert len(pieces) > 1 and whole.num_tokens == 20 and whole.finish_reason == "length" and whole.num_prompt == 5


def test_the_second_time_the_prompt_is_cached_and_the_text_the_same(model):
    first, second = (model.complete("a prompt of more than one page", max_tokens=9) for _ in range(2))
    assert first.text == second.text and first.num_cached == 0 < second.num_cached


def test_a_seed_repeats_an_answer(model):
    first, again, other = (model.complete("x", max_tokens=30, temperature=5.0, seed=seed).text for seed in (1, 1, 2))
    assert first == again != other


def test_a_stop_text_ends_the_answer_and_is_no_part_of_it(model):
    whole = model.complete("hello", max_tokens=20).text
    stop = whole[7:9]
    stopped = model.complete("hello", max_tokens=20, stop=[stop])
    assert stopped.text == whole[: whole.index(stop)] and stopped.finish_reason == "stop"


def test_a_stream_left_early_gives_its_slot_back(model):
    stream = model.stream("hello", max_tokens=100)
    next(stream)
    stream.close()


def test_two_streams_at_once_do_not_disturb_each_other(model):
    alone = [model.complete(prompt, max_tokens=12).text for prompt in ("one", "two")]
    streams = [model.stream(prompt, max_tokens=12) for prompt in ("one", "two")]
    assert [stream.read().text for stream in streams] == alone


def test_max_tokens_0_reads_the_prompt_and_says_nothing(model):
    completion = model.complete("hello", max_tokens=0)
    assert completion.text == "" and completion.num_tokens == 0


def test_a_prompt_too_long_is_an_error_with_numbers(model):
    with pytest.raises(ContextTooLong, match="128"):
        model.complete("a" * 200)


def test_messages_need_a_template(model):
    with pytest.raises(BadRequest, match="template"):
        model.complete([{"role": "user", "content": "hi"}])


def test_what_is_no_setting_or_no_model_is_refused_before_loading(tmp_path):
    with pytest.raises(BadConfig, match="thread") as caught:
        isochrone.load("smollm2-135m", thread=2)
    assert "threads" in caught.value.fix
    with pytest.raises(NotFound):
        isochrone.load(tmp_path / "none.gguf")


def test_a_completion_says_what_it_took(model):
    summary = model.complete("hello", max_tokens=3).summary
    assert "first token after" in summary and "3 tokens" in summary and "length" in summary
