"""The pages of the KV cache and who holds them.  The only place where references are counted.

         take                     release, unknown to the tree
free ──────────► held (count ≥ 1) ─────────────────────────────► free
                  ▲   │ release, known to the tree
            share │   ▼
                 cached ── take, when none is free: the longest idle one ──► held by another
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .prefix import PrefixTree


class PagePool:
    """free + cached + held = num_pages, always.

    on_evict  called with the key of a block and the page that still holds it, just before the page is given away
    """

    def __init__(self, num_pages: int, tree: PrefixTree, on_evict: Callable[[bytes, int], None] | None = None) -> None:
        self.num_pages, self._tree, self._on_evict = num_pages, tree, on_evict
        self._free = list(range(num_pages - 1, -1, -1))
        self._counts = [0] * num_pages
        self._num_held = 0

    @property
    def num_free(self) -> int:
        return len(self._free)

    @property
    def num_cached(self) -> int:
        return self._tree.num_idle

    @property
    def num_held(self) -> int:
        return self._num_held

    @property
    def num_available(self) -> int:
        """Pages that `take` can give."""
        return len(self._free) + self._tree.num_idle

    def is_held(self, page: int) -> bool:
        return self._counts[page] > 0

    def num_private(self, pages: Sequence[int]) -> int:
        """How many of these one holder holds alone, and would set free."""
        counts = self._counts
        return sum(counts[page] == 1 for page in pages)

    def take(self) -> int:
        """A page for new positions; evicts when none is free.  The caller made sure that one is available."""
        assert self._free or self._tree.num_idle, "a page was taken that the scheduler had not counted"
        page = self._free.pop() if self._free else self._evict()
        self._counts[page] = 1
        self._num_held += 1
        return page

    def _evict(self) -> int:
        page = self._tree.coldest()
        if self._on_evict is not None:
            self._on_evict(self._tree.key(page), page)
        self._tree.forget(page)
        return page

    def share(self, pages: Sequence[int]) -> None:
        """Hold pages that the tree found."""
        for page in pages:
            if self._counts[page] == 0:
                self._tree.wake(page)
                self._num_held += 1
            self._counts[page] += 1

    def release(self, pages: Sequence[int]) -> None:
        """Hold them no more; given in order of position."""
        for page in reversed(pages):
            assert self._counts[page] > 0, f"page {page} was released twice"
            self._counts[page] -= 1
            if self._counts[page]:
                continue
            self._num_held -= 1
            if self._tree.knows(page):
                self._tree.rest(page)
            else:
                self._free.append(page)

    def discard(self, pages: Sequence[int]) -> None:
        """Hold them no more, and let nobody find them again: what they hold is not to be trusted."""
        for page in pages:
            self._tree.forget(page)
        self.release(pages)

    def forget_cached(self) -> None:
        """Empty the cached pages into the free ones."""
        while self._tree.num_idle:
            self._free.append(self._tree.evict())
