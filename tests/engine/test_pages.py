"""Pages are free, cached or held; the cached go longest unused first, and children before their parents."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from isochrone.engine.pages import PagePool
from isochrone.engine.prefix import PrefixTree, child_key, root_key


def make_chain(pool, tree, name, length):
    """A sequence that computed and registered `length` blocks: keys and pages."""
    keys, pages = [], []
    for at in range(length):
        keys.append(child_key(keys[-1] if keys else root_key(name, "plan", "bf16"), bytes([at])))
        pages.append(pool.take())
        tree.add(keys[-1], pages[-1])
    return keys, pages


def test_the_longest_unused_prefix_is_evicted_from_its_end():
    tree = PrefixTree()
    pool = PagePool(6, tree)
    (old_keys, old), (new_keys, new) = make_chain(pool, tree, "a", 3), make_chain(pool, tree, "b", 3)
    pool.release(old)
    pool.release(new)
    pool.share(tree.find(old_keys[:1]))  # a touch makes the first block of the old one young again
    pool.release(old[:1])
    assert [pool.take() for _ in range(6)] == [old[2], old[1], new[2], new[1], new[0], old[0]]
    assert tree.find(old_keys) == tree.find(new_keys) == []


def test_free_pages_are_taken_before_any_cached_one():
    tree = PrefixTree()
    pool = PagePool(3, tree)
    keys, pages = make_chain(pool, tree, "a", 1)
    pool.release(pages)
    pool.take(), pool.take()
    assert tree.find(keys) == pages and (pool.num_free, pool.num_cached, pool.num_held) == (0, 1, 2)


def test_a_page_that_is_shared_is_free_only_after_its_last_holder():
    tree = PrefixTree()
    pool = PagePool(2, tree)
    page = pool.take()
    pool.share([page])
    pool.release([page])
    assert pool.is_held(page) and pool.num_private([page]) == 1
    pool.release([page])
    assert pool.num_free == 2
    with pytest.raises(AssertionError, match="released twice"):
        pool.release([page])


def test_a_discarded_page_is_found_by_nobody_but_stays_with_who_holds_it():
    tree = PrefixTree()
    pool = PagePool(2, tree)
    keys, pages = make_chain(pool, tree, "a", 1)
    pool.share(pages)
    pool.discard(pages)
    assert tree.find(keys) == [] and pool.num_held == 1
    pool.release(pages)
    assert pool.num_free == 2


def test_keys_of_different_tenants_plans_and_cache_types_never_meet():
    roots = {root_key(*names) for names in [("a", "p", "k"), ("b", "p", "k"), ("a", "q", "k"), ("a", "p", "l")]}
    assert len(roots) == 4
    assert root_key("a', 'p", "", "k") != root_key("a", "p', '", "k")


class Pool(RuleBasedStateMachine):
    """Sequences come, share, grow and go in any order; a model of sets says what the pool should count."""

    held = Bundle("held")

    def __init__(self):
        super().__init__()
        self.tree = PrefixTree()
        self.pool = PagePool(12, self.tree)
        self.live = []

    @rule(target=held, name=st.sampled_from("ab"), length=st.integers(1, 4))
    def come(self, name, length):
        keys = []
        for at in range(length):
            keys.append(child_key(keys[-1] if keys else root_key(name, "", ""), bytes([at])))
        pages = self.tree.find(keys)
        self.pool.share(pages)
        while len(pages) < length and self.pool.num_available:
            own = self.pool.take()
            known = self.tree.add(keys[len(pages)], own)
            if known != own:  # its parent was forgotten, so `find` stopped before it
                self.pool.share([known])
                self.pool.release([own])
            pages.append(known)
        self.live.append(pages)
        return pages

    @rule(pages=consumes(held))
    def go(self, pages):
        self.live.remove(pages)
        self.pool.release(pages)

    @rule(pages=consumes(held))
    def go_in_disgrace(self, pages):
        self.live.remove(pages)
        self.pool.discard(pages)

    @precondition(lambda self: self.pool.num_cached)
    @rule()
    def forget(self):
        self.pool.forget_cached()

    @invariant()
    def books_balance(self):
        held = {page for pages in self.live for page in pages}
        assert self.pool.num_held == len(held)
        assert self.pool.num_free + self.pool.num_cached + self.pool.num_held == 12
        assert all(self.pool.is_held(page) == (page in held) for page in range(12))


TestPool = Pool.TestCase
TestPool.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
