"""The prefix tree: which page of the cache holds which beginning of a text, for one tenant.

    root(tenant, plan, KV type) ── block 0 ── block 1 ── block 2        a block is page_tokens tokens
                                          └── block 1'                  a key is the hash of all blocks down to it

A key names the whole chain above it, so the tree needs no links: its nodes are one dictionary, and to walk it is to
look up one key after another.  It knows which pages are idle (nobody holds them), whose they are, and in which order
to give them up, and no reference count: those belong to the pool.
"""

from __future__ import annotations

import hashlib
from collections import Counter, OrderedDict
from collections.abc import Iterable

KEY_BYTES = 16


def root_key(tenant: str, plan_hash: str, kv_type: str) -> bytes:
    """Where a tenant's tree begins; no two tenants share a key below their roots."""
    return hashlib.blake2b(repr((tenant, plan_hash, kv_type)).encode(), digest_size=KEY_BYTES).digest()


def child_key(parent: bytes, block: bytes) -> bytes:
    """The key of a block of tokens (i32, as bytes) behind everything that `parent` names."""
    return hashlib.blake2b(parent + block, digest_size=KEY_BYTES).digest()


class PrefixTree:
    """Keys to pages and back, and the idle pages in the order in which they are given up.

    Whose page goes first: that of the tenant who has the most pages here, and of these the longest unused.  So a tenant
    who floods the cache evicts itself.  Pages pinned by their tenant go last of all: they wait for memory, but never
    make a running sequence wait.
    """

    def __init__(self) -> None:
        self._page_of: dict[bytes, int] = {}
        self._key_of: dict[int, bytes] = {}
        self._tenant_of: dict[int, str] = {}
        self._num_pages: Counter[str] = Counter()
        self._idle: dict[str, OrderedDict[int, int]] = {}
        self._pinned_until: dict[int, float] = {}
        self._num_idle = self._num_rests = 0

    @property
    def num_idle(self) -> int:
        return self._num_idle

    def num_pinned(self, tenant: str | None = None) -> int:
        """Pages pinned by one tenant, or by all."""
        return sum(tenant in (None, self._tenant_of[page]) for page in self._pinned_until)

    def find(self, keys: Iterable[bytes]) -> list[int]:
        """The pages of the longest beginning of this chain that is cached."""
        pages: list[int] = []
        for key in keys:
            page = self._page_of.get(key)
            if page is None:
                break
            pages.append(page)
        return pages

    def add(self, key: bytes, page: int, tenant: str = "") -> int:
        """Name a page that somebody holds; if the key has a page already, that one is returned and stays."""
        known = self._page_of.setdefault(key, page)
        if known == page and page not in self._key_of:
            self._key_of[page], self._tenant_of[page] = key, tenant
            self._num_pages[tenant] += 1
        return known

    def knows(self, page: int) -> bool:
        return page in self._key_of

    def key(self, page: int) -> bytes:
        """The name of a page that is known."""
        return self._key_of[page]

    def pin(self, page: int, until: float) -> None:
        """Give this page, which is known, up after all that are not pinned; for longer, if it is pinned already."""
        self._pinned_until[page] = max(until, self._pinned_until.get(page, until))

    def is_pinned(self, page: int) -> bool:
        return page in self._pinned_until

    def unpin_expired(self, now: float) -> None:
        """Let go the pins whose time is over."""
        for page in [page for page, until in self._pinned_until.items() if until <= now]:
            del self._pinned_until[page]

    def forget(self, page: int) -> None:
        """The page's content is no longer to be trusted, or its place is needed."""
        key = self._key_of.get(page)
        if key is None:
            return
        self.wake(page)
        tenant = self._tenant_of.pop(page)
        self._num_pages[tenant] -= 1
        if not self._num_pages[tenant]:
            del self._num_pages[tenant]
        self._pinned_until.pop(page, None)
        del self._page_of[key], self._key_of[page]

    def rest(self, page: int) -> None:
        """Nobody holds this page any more.  Blocks must come to rest deepest first: parents then outlive children."""
        self._num_rests += 1
        self._idle.setdefault(self._tenant_of[page], OrderedDict())[page] = self._num_rests
        self._num_idle += 1

    def wake(self, page: int) -> None:
        """Somebody holds this page again."""
        tenant = self._tenant_of[page]
        idle = self._idle.get(tenant)
        if idle is not None and idle.pop(page, None) is not None:
            self._num_idle -= 1
            if not idle:
                del self._idle[tenant]

    def coldest(self) -> int:
        """The idle page to give up next."""
        found = self._coldest(pinned=False) or self._coldest(pinned=True)
        assert found is not None, "no page is idle"
        return found[2]

    def evict(self) -> int:
        """Give up the coldest page."""
        page = self.coldest()
        self.forget(page)
        return page

    def _coldest(self, *, pinned: bool) -> tuple[int, int, int] | None:
        """(pages of its tenant, negative; when it came to rest; the page)."""
        found = None
        for tenant, idle in self._idle.items():
            for page, at in idle.items():
                if self.is_pinned(page) == pinned:
                    one = (-self._num_pages[tenant], at, page)
                    found = one if found is None else min(found, one)
                    break
        return found
