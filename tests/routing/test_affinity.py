"""Which place probably holds a prompt's beginning."""

from __future__ import annotations

from isochrone.places.place import Chat, Message, Text, TokenIds, Tool
from isochrone.routing.affinity import BLOCK_CHARS, KEEP_S, TRUST_AT_FIRST, Affinity, beginnings, prompt_text

A, B = ("a", "m"), ("b", "m")
LONG = "".join(chr(97 + number % 26) * 7 for number in range(1000))


def test_the_longest_beginning_that_was_sent_there_counts() -> None:
    affinity = Affinity()
    affinity.sent(A, beginnings("t", LONG), 0.0)
    affinity.sent(B, beginnings("t", LONG[: 2 * BLOCK_CHARS]), 0.0)
    other = LONG[: 4 * BLOCK_CHARS] + "x" * 5000
    assert affinity.num_cached_chars(beginnings("t", other), 1.0) == {
        A: 4 * BLOCK_CHARS * TRUST_AT_FIRST,
        B: 2 * BLOCK_CHARS * TRUST_AT_FIRST,
    }
    assert affinity.num_cached_chars(beginnings("t", "x" + LONG), 1.0) == {}


def test_no_tenant_profits_from_anothers_prompt() -> None:
    affinity = Affinity()
    affinity.sent(A, beginnings("t", LONG), 0.0)
    assert affinity.num_cached_chars(beginnings("u", LONG), 0.0) == {}


def test_what_is_old_or_too_much_is_forgotten() -> None:
    affinity = Affinity(num_kept=4)
    affinity.sent(A, beginnings("t", LONG[: 4 * BLOCK_CHARS]), 0.0)
    assert affinity.num_cached_chars(beginnings("t", LONG), KEEP_S + 1.0) == {}
    affinity.sent(B, beginnings("t", "y" * 4 * BLOCK_CHARS), 1.0)
    assert affinity.num_cached_chars(beginnings("t", LONG), 1.0) == {}


def test_a_place_is_trusted_as_far_as_it_reports() -> None:
    affinity = Affinity()
    for _ in range(60):
        affinity.learn(A, expected=100.0, actual=0.0)
        affinity.learn(B, expected=100.0, actual=130.0)
    assert affinity.trust(A) < 0.01 and affinity.trust(B) > 0.99
    affinity.forget("a")
    assert affinity.trust(A) == TRUST_AT_FIRST


def test_prompts_that_begin_alike_are_texts_that_begin_alike() -> None:
    first = Chat((Message("system", "Be brief."), Message("user", "Hi")), tools=(Tool("f", "does"),))
    second = Chat((*first.messages, Message("assistant", "Yes?"), Message("user", "Go")), tools=first.tools)
    assert prompt_text(second).startswith(prompt_text(first))
    assert prompt_text(Text("as it is")) == "as it is"
    assert prompt_text(TokenIds((1, 2, 3))) == "1 2 3"
