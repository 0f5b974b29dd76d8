"""The prefix tree: which page of the cache holds which beginning of a text, for one tenant.

    root(tenant, plan, KV type) ── block 0 ── block 1 ── block 2        a block is page_tokens tokens
                                          └── block 1'                  a key is the hash of all blocks down to it

A key names the whole chain above it, so the tree needs no links: its nodes are one dictionary, and to walk it is to
look up one key after another.  It knows which pages are idle (nobody holds them) and in which order to give them up,
and no reference count: those belong to the pool.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable

KEY_BYTES = 16


def root_key(tenant: str, plan_hash: str, kv_type: str) -> bytes:
    """Where a tenant's tree begins; no two tenants share a key below their roots."""
    return hashlib.blake2b(repr((tenant, plan_hash, kv_type)).encode(), digest_size=KEY_BYTES).digest()


def child_key(parent: bytes, block: bytes) -> bytes:
    """The key of a block of tokens (i32, as bytes) behind everything that `parent` names."""
    return hashlib.blake2b(parent + block, digest_size=KEY_BYTES).digest()


class PrefixTree:
    """Keys to pages and back, and the idle pages from the longest unused to the latest."""

    def __init__(self) -> None:
        self._page_of: dict[bytes, int] = {}
        self._key_of: dict[int, bytes] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()

    @property
    def num_idle(self) -> int:
        return len(self._idle)

    def find(self, keys: Iterable[bytes]) -> list[int]:
        """The pages of the longest beginning of this chain that is cached."""
        pages: list[int] = []
        for key in keys:
            page = self._page_of.get(key)
            if page is None:
                break
            pages.append(page)
        return pages

    def add(self, key: bytes, page: int) -> int:
        """Name a page that somebody holds; if the key has a page already, that one is returned and stays."""
        known = self._page_of.setdefault(key, page)
        if known == page:
            self._key_of[page] = key
        return known

    def knows(self, page: int) -> bool:
        return page in self._key_of

    def forget(self, page: int) -> None:
        """The page's content is no longer to be trusted, or its place is needed."""
        key = self._key_of.pop(page, None)
        if key is not None:
            del self._page_of[key]
        self._idle.pop(page, None)

    def rest(self, page: int) -> None:
        """Nobody holds this page any more.  Blocks must come to rest deepest first: parents then outlive children."""
        self._idle[page] = None

    def wake(self, page: int) -> None:
        """Somebody holds this page again."""
        self._idle.pop(page, None)

    def evict(self) -> int:
        """Give up the page that has been idle longest."""
        page = next(iter(self._idle))
        self.forget(page)
        return page
