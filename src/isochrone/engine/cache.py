"""The KV cache as the sequences see it: prefixes found, pages held, full pages made known, all given back."""

from __future__ import annotations

from isochrone.runtime.step import RuntimeInfo

from .pages import PagePool
from .prefix import PrefixTree, root_key
from .sequence import Sequence


class KVCache:
    """Joins pool and tree for the engine.  Only full pages are shared, and a full page is never written again."""

    def __init__(self, info: RuntimeInfo) -> None:
        self.page_tokens, self._info = info.page_tokens, info
        self.tree = PrefixTree()
        self.pool = PagePool(info.num_pages, self.tree)

    def root(self, tenant: str) -> bytes:
        return root_key(tenant, self._info.plan_hash, self._info.kv_type)

    def survey(self, sequence: Sequence) -> None:
        """Note in its standing what the cache would give a waiting sequence now."""
        pages = self._known(sequence)
        sequence.standing.num_computed = len(pages) * self.page_tokens
        sequence.standing.num_pages_shared = sum(map(self.pool.is_held, pages))

    def admit(self, sequence: Sequence) -> None:
        """Give it its known prefix, and pages for the rest of its tokens."""
        pages, standing = self._known(sequence), sequence.standing
        self.pool.share(pages)
        sequence.num_registered = len(pages)
        standing.num_computed = len(pages) * self.page_tokens
        num_pages = -(-standing.num_tokens // self.page_tokens)
        sequence.pages = pages + [self.pool.take() for _ in range(num_pages - len(pages))]
        standing.num_pages = num_pages

    def grow(self, sequence: Sequence) -> int:
        """One more page for a sequence that decodes."""
        page = self.pool.take()
        sequence.pages.append(page)
        sequence.standing.num_pages += 1
        return page

    def register(self, sequence: Sequence) -> list[int]:
        """Make its newly full pages known; returns the places whose page was exchanged for one of equal content."""
        exchanged = []
        num_full = sequence.standing.num_computed // self.page_tokens
        keys = sequence.block_keys(num_full, self.page_tokens)
        for at in range(sequence.num_registered, num_full):
            own = sequence.pages[at]
            known = self.tree.add(keys[at], own)
            if known != own:  # another computed the same block meanwhile: hold its page, so that children keep parents
                self.pool.share([known])
                self.pool.release([own])
                sequence.pages[at] = known
                exchanged.append(at)
        sequence.num_registered = num_full
        return exchanged

    def leave(self, sequence: Sequence, *, trusted: bool = True) -> None:
        """Take its pages back; what is full stays cached, unless its content is not to be trusted."""
        if trusted:
            self.pool.release(sequence.pages)
        else:
            self.pool.discard(sequence.pages)
        sequence.pages, sequence.num_registered = [], 0
        sequence.standing.num_computed = sequence.standing.num_pages = 0

    def _known(self, sequence: Sequence) -> list[int]:
        num_blocks = sequence.num_reusable() // self.page_tokens
        return self.tree.find(sequence.block_keys(num_blocks, self.page_tokens))
