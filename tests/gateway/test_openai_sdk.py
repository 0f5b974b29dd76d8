"""The API through the client that people use."""

from __future__ import annotations

import openai
import pytest
from openai import OpenAI

from tests.gateway.conftest import MODEL, Server

FOX = [{"role": "user", "content": "The quick brown fox"}]
PHRASE = "The quick brown fox"


def test_a_completion_is_text_with_usage(client: OpenAI, server: Server) -> None:
    answer = client.completions.create(model=MODEL, prompt=PHRASE, max_tokens=30)
    num_prompt = len(server.engine.submitted[0].prompt_ids)
    assert answer.choices[0].text.startswith(PHRASE)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (num_prompt, 30)
    assert answer.usage.prompt_tokens_details.cached_tokens == 2


def test_a_streamed_chat_is_the_same_text_as_a_whole_one(client: OpenAI) -> None:
    whole = client.chat.completions.create(model=MODEL, messages=FOX, max_tokens=40)
    stream = client.chat.completions.create(model=MODEL, messages=FOX, max_tokens=40, stream=True)
    chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.choices[0].message.content
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason == "length"
    assert len({chunk.id for chunk in chunks}) == 1


def test_usage_comes_in_a_last_chunk_when_asked(client: OpenAI) -> None:
    options = {"include_usage": True}
    stream = client.chat.completions.create(
        model=MODEL, messages=FOX, max_tokens=5, stream=True, stream_options=options
    )
    *chunks, last = list(stream)
    assert all(chunk.usage is None for chunk in chunks)
    assert last.choices == [] and last.usage is not None and last.usage.completion_tokens == 5


def test_padded_chunks_differ_little_in_size(server: Server) -> None:
    body = {
        "model": MODEL, "messages": FOX, "max_tokens": 40, "stream": True,
        "stream_options": {"include_obfuscation": True},
    }  # fmt: skip
    _, _, text = server.send("POST", "/v1/chat/completions", body)
    sizes = {len(event) + 2 for event in text.split(b"\n\n") if b"content" in event}
    assert all(size % 64 == 0 for size in sizes) and len(sizes) <= 2


def test_each_of_n_answers_is_whole(client: OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt=PHRASE, max_tokens=10, n=3)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert len({choice.text for choice in answer.choices}) == 1
    assert answer.usage is not None and answer.usage.completion_tokens == 30
    stream = client.completions.create(model=MODEL, prompt=PHRASE, max_tokens=10, n=3, stream=True)
    texts = ["", "", ""]
    for chunk in stream:
        texts[chunk.choices[0].index] += chunk.choices[0].text
    assert texts == [choice.text for choice in answer.choices]


def test_several_prompts_are_answered_in_their_order(client: OpenAI, server: Server) -> None:
    answer = client.completions.create(model=MODEL, prompt=["The quick", "lazy dog"], max_tokens=12, n=2)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert [choice.text[:4] for choice in answer.choices] == ["The ", "The ", "lazy", "lazy"]
    assert len(server.engine.submitted) == 2


def test_token_ids_are_taken_as_they_are(client: OpenAI, server: Server) -> None:
    client.completions.create(model=MODEL, prompt=[5, 6, 7], max_tokens=2)
    client.completions.create(model=MODEL, prompt=[[5, 6], [7]], max_tokens=2)
    assert [submit.prompt_ids for submit in server.engine.submitted] == [[5, 6, 7], [5, 6], [7]]


def test_a_harness_scores_a_text_without_generating(client: OpenAI, server: Server) -> None:
    answer = client.completions.create(model=MODEL, prompt=PHRASE, max_tokens=0, echo=True, logprobs=1)
    choice = answer.choices[0]
    num_prompt = len(server.engine.submitted[0].prompt_ids)
    assert choice.text == PHRASE and choice.logprobs is not None
    assert choice.logprobs.token_logprobs == [None, *(-0.5 * at for at in range(1, num_prompt))]
    assert "".join(choice.logprobs.tokens or []) == PHRASE
    assert choice.logprobs.text_offset is not None and choice.logprobs.tokens is not None
    for offset, token in zip(choice.logprobs.text_offset, choice.logprobs.tokens, strict=True):
        assert PHRASE[offset : offset + len(token)] == token
    assert choice.logprobs.top_logprobs is not None and choice.logprobs.top_logprobs[0] is None
    assert answer.usage is not None and answer.usage.completion_tokens == 0


def test_echo_is_prompt_then_answer_streamed_or_not(client: OpenAI) -> None:
    whole = client.completions.create(model=MODEL, prompt=PHRASE, max_tokens=8, echo=True, logprobs=0)
    stream = list(
        client.completions.create(model=MODEL, prompt=PHRASE, max_tokens=8, echo=True, logprobs=0, stream=True)
    )
    text = "".join(chunk.choices[0].text for chunk in stream)
    assert text == whole.choices[0].text and text.startswith(PHRASE * 1)
    offsets = [at for chunk in stream if chunk.choices[0].logprobs for at in chunk.choices[0].logprobs.text_offset]
    assert whole.choices[0].logprobs is not None and offsets == whole.choices[0].logprobs.text_offset


def test_chat_logprobs_carry_bytes_and_alternatives(client: OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=FOX, max_tokens=20, logprobs=True, top_logprobs=2)
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None and logprobs.content is not None
    assert len(logprobs.content) == 20
    first = logprobs.content[0]
    assert first.logprob == -1.0 and len(first.top_logprobs) == 2 and bytes(first.bytes or []).decode() == first.token


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_string_ends_the_answer_and_is_never_shown(client: OpenAI, server: Server, stream: bool) -> None:
    answer = client.completions.create(model=MODEL, prompt=PHRASE, max_tokens=40, stop=["wn f", "zzz"], stream=stream)
    if stream:
        chunks = list(answer)
        text, reason = "".join(chunk.choices[0].text for chunk in chunks), chunks[-1].choices[0].finish_reason
    else:
        text, reason = answer.choices[0].text, answer.choices[0].finish_reason
    assert (text, reason) == ("The quick bro", "stop")
    assert server.engine.num_tokens < 40


def test_no_logprob_tells_of_a_stop_string(client: OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt=PHRASE, max_tokens=40, stop="fox", logprobs=1)
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None and logprobs.tokens is not None
    assert answer.choices[0].text == "The quick brown "
    assert "".join(logprobs.tokens) == "The quick brown"  # the space belongs to a token that would tell


def test_every_sampling_field_reaches_the_engine(client: OpenAI, server: Server) -> None:
    client.chat.completions.create(
        model=MODEL, messages=FOX, max_completion_tokens=3, temperature=0.3, top_p=0.9, presence_penalty=0.5,
        frequency_penalty=-0.5, seed=7, n=2, logit_bias={"5": -100}, user="me", metadata={"a": "b"}, store=True,
        extra_body={"top_k": 4, "min_p": 0.1, "repetition_penalty": 1.2, "stop_token_ids": [9], "ignore_eos": True},
    )  # fmt: skip
    submit = server.engine.submitted[0]
    sampling = submit.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.min_p) == (0.3, 0.9, 4, 0.1)
    assert (sampling.presence_penalty, sampling.frequency_penalty, sampling.repetition_penalty) == (0.5, -0.5, 1.2)
    assert (sampling.seed, sampling.n, sampling.logit_bias, sampling.stop_token_ids) == (7, 2, {5: -100.0}, (9,))
    assert sampling.ignore_eos and submit.max_tokens == 3 and submit.total_at is None and submit.tenant == "local"


def test_models_are_listed_and_described(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).created == 1_700_000_000
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("other")
    assert caught.value.code == "model_not_found"


def test_an_unknown_model_is_named_with_those_that_exist(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gpt-9", messages=FOX)
    assert "gpt-9" in caught.value.message and MODEL in caught.value.message


def test_a_prompt_that_does_not_fit_is_an_error_with_both_numbers(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model=MODEL, prompt=[5] * 600)
    assert caught.value.code == "context_length_exceeded" and "600" in caught.value.message
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model=MODEL, prompt=[5] * 500, max_tokens=13)
    assert caught.value.param == "max_tokens" and "Lower max_tokens to 12" in caught.value.message
    assert client.completions.create(model=MODEL, prompt=[5] * 500, max_tokens=12).usage.completion_tokens == 12
    assert client.completions.create(model=MODEL, prompt=[5] * 512, max_tokens=0).usage.prompt_tokens == 512


def test_text_and_tokens_go_there_and_back(server: Server) -> None:
    import json

    _, _, body = server.send("POST", "/tokenize", {"model": MODEL, "prompt": PHRASE})
    tokens = json.loads(body)
    assert tokens["count"] == len(tokens["tokens"]) and tokens["max_model_len"] == 512
    _, _, body = server.send("POST", "/detokenize", {"tokens": tokens["tokens"]})
    assert json.loads(body) == {"prompt": PHRASE}
    _, _, body = server.send("POST", "/tokenize", {"messages": FOX})
    server.send("POST", "/v1/chat/completions", {"model": MODEL, "messages": FOX, "max_tokens": 1})
    assert json.loads(body)["tokens"] == server.engine.submitted[0].prompt_ids
