"""Pinned prompts outlast floods, within a quota; a tenant who floods the cache evicts itself."""

from isochrone.engine.pages import PagePool
from isochrone.engine.prefix import PrefixTree
from isochrone.engine.records import SamplingParams, Submit

from .driver import alone, run

GREEDY = SamplingParams(temperature=0)


def prompt(number, length=40):
    return [(number * 7 + at * 3) % 90 for at in range(length)]


def ask(engine, id, number, length=40, **more):
    submit = Submit(
        id=id, prompt_ids=prompt(number, length), sampling=GREEDY, max_tokens=3, arrived_at=engine.clock(), **more
    )
    return run(engine, [submit])[id, 0].timing


def flood(engine, num, *, tenant, first=100):
    for number in range(num):
        ask(engine, first + number, first + number, tenant=tenant)


def test_a_pinned_prompt_is_still_cached_after_its_tenant_asked_for_much_else(make_engine):
    engine = make_engine(num_pages=32)
    ask(engine, 1, 1, pin_s=600.0)
    flood(engine, 20, tenant="local")
    assert ask(engine, 2, 1).num_cached == 32


def test_without_a_pin_it_would_be_gone(make_engine):
    engine = make_engine(num_pages=32)
    ask(engine, 1, 1)
    flood(engine, 20, tenant="local")
    assert ask(engine, 2, 1).num_cached == 0


def test_a_pin_ends_with_its_time(make_engine):
    engine = make_engine(num_pages=32)
    ask(engine, 1, 1, pin_s=0.5)
    engine.clock.advance(1.0)
    flood(engine, 20, tenant="local")
    assert ask(engine, 2, 1).num_cached == 0


def test_a_tenant_pins_a_quarter_of_the_cache_and_all_together_half(make_engine):
    engine = make_engine(num_pages=32)
    tree = engine.roster.cache.tree
    for number in range(1, 4):
        ask(engine, number, number, length=64, tenant="a", pin_s=600.0)
    assert tree.num_pinned("a") == 8
    for number, tenant in enumerate("bcd", 10):
        ask(engine, number, number, length=64, tenant=tenant, pin_s=600.0)
    assert tree.num_pinned() == 16 and tree.num_pinned("b") == 8


def test_pins_never_keep_a_running_sequence_waiting(make_engine):
    engine = make_engine(num_pages=32)
    for number, tenant in enumerate("abc", 1):
        ask(engine, number, number, length=64, tenant=tenant, pin_s=600.0)
    assert ask(engine, 9, 9, length=250, tenant="d").num_generated == 3


def test_with_reuse_switched_off_every_prompt_is_computed_and_the_text_is_the_same(make_engine):
    engine = make_engine(limits={"reuses": False})
    submits = [Submit(id=id, prompt_ids=prompt(1), sampling=GREEDY, max_tokens=30) for id in (1, 2)]
    first, again = (run(engine, [submit])[submit.id, 0] for submit in submits)
    assert again.timing.num_cached == 0
    assert again.token_ids == first.token_ids == alone(submits[0])[0].token_ids


def test_who_floods_evicts_itself(make_engine):
    engine = make_engine(num_pages=32)
    ask(engine, 1, 1, tenant="canary")
    flood(engine, 30, tenant="flooder")
    assert ask(engine, 2, 1, tenant="canary").num_cached == 32


def test_between_equals_the_longest_unused_goes_first():
    tree = PrefixTree()
    pool = PagePool(4, tree)
    pages = [pool.take() for _ in range(4)]
    for page, tenant in zip(pages, "abab", strict=True):
        tree.add(bytes([page]), page, tenant)
    pool.release([pages[2]])
    pool.release([pages[0]])
    pool.release([pages[1]])
    assert [pool.take() for _ in range(3)] == [pages[2], pages[1], pages[0]]
