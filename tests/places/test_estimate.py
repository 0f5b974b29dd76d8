"""A prompt's guessed length counts everything that the place will read."""

import msgspec

from isochrone.places.estimate import num_prompt_tokens
from isochrone.places.place import Chat, Message, Partial, Request, Text, TokenIds, Tool, ToolCall

WORDS = "word " * 80
PLAIN = Request("r", "m", "t", Chat((Message("user", "Hi."),)))


def longer(**changed):
    return num_prompt_tokens(msgspec.structs.replace(PLAIN, **changed)) - num_prompt_tokens(PLAIN)


def test_words_thoughts_calls_tools_and_what_is_answered_already_count():
    call = ToolCall("c", "look", WORDS)
    for chat in (
        Chat((Message("user", WORDS),)),
        Chat((Message("assistant", "Hi.", reasoning=WORDS),)),
        Chat((Message("assistant", "Hi.", tool_calls=(call,)),)),
        Chat((Message("user", "Hi."),), tools=(Tool("look", WORDS),)),
        Chat((Message("user", "Hi."),), tools=(Tool("look", parameters={"title": WORDS}),)),
    ):
        assert 90 <= longer(prompt=chat) <= 140
    assert longer(partial=Partial(WORDS)) == 100


def test_tokens_are_counted_and_a_text_is_guessed_at():
    assert num_prompt_tokens(msgspec.structs.replace(PLAIN, prompt=TokenIds((1, 2, 3)))) == 4
    assert num_prompt_tokens(msgspec.structs.replace(PLAIN, prompt=Text(WORDS))) == 101
