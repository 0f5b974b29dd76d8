"""The KV cache as the sequences see it: prefixes found, pages held, full pages made known, all given back.

Cold blocks may go to disk and come back, when that is faster than to compute them again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from isochrone.runtime.step import Runtime, RuntimeInfo

from .pages import PagePool
from .prefix import PrefixTree, root_key
from .sequence import Sequence

if TYPE_CHECKING:
    from .spill import Spill

PINNED_SHARE, PINNED_SHARE_TENANT = 0.5, 0.25
"""Of all pages, those that may be pinned at once, by everybody and by one tenant; further pins are not taken."""
READ_RATE = 0.1
"""Weight of the newest block in what reading one takes."""
READ_BYTES_PER_S = 500e6
"""What a disk is taken to read before one block was read."""


@dataclass(slots=True)
class Shelf:
    """Where cold blocks go.

    compute_s  asks what it takes to compute num_tokens behind start positions;  read_s: what reading a block has taken
    """

    spill: Spill
    runtime: Runtime
    compute_s: Callable[[int, int], float]
    read_s: float

    def is_worth(self, start: int, num_tokens: int) -> bool:
        """Whether reading a block beats computing it."""
        return self.read_s < self.compute_s(start, num_tokens)

    def read(self, key: bytes, page: int) -> bool:
        """Fill this page with a block; whether it was there, and whole."""
        began_at = time.perf_counter()
        block = self.spill.get(key)
        if block is None:
            return False
        self.runtime.write_pages([page], block[None])
        self.read_s += READ_RATE * (time.perf_counter() - began_at - self.read_s)
        return True


class KVCache:
    """Joins pool and tree for the engine.  Only full pages are shared, and a full page is never written again.

    reuses  whether known prefixes are given to those who come
    """

    def __init__(self, info: RuntimeInfo) -> None:
        self.page_tokens, self._info = info.page_tokens, info
        self.tree = PrefixTree()
        self.pool = PagePool(info.num_pages, self.tree, self._on_evict)
        self.shelf: Shelf | None = None
        self.reuses = True
        self.num_restored = 0

    def root(self, tenant: str) -> bytes:
        return root_key(tenant, self._info.plan_hash, self._info.kv_type)

    def survey(self, sequence: Sequence) -> None:
        """Note in its standing what the cache would give a waiting sequence now."""
        pages = self._known(sequence)
        num_blocks = len(pages) + len(self._spilled(sequence, len(pages)))
        sequence.standing.num_computed = num_blocks * self.page_tokens
        sequence.standing.num_pages_shared = sum(map(self.pool.is_held, pages))

    def admit(self, sequence: Sequence) -> None:
        """Give it its known prefix, and pages for the rest of its tokens."""
        pages, standing = self._known(sequence), sequence.standing
        self.pool.share(pages)
        pages += self._restore(sequence, len(pages))
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
            known = self.tree.add(keys[at], own, sequence.request.submit.tenant)
            if known != own:  # another computed the same block meanwhile: hold its page, so that children keep parents
                self.pool.share([known])
                self.pool.release([own])
                sequence.pages[at] = known
                exchanged.append(at)
        num_before, sequence.num_registered = sequence.num_registered, num_full
        num_prompt = sequence.num_prompt // self.page_tokens
        if sequence.request.submit.pin_s is not None and num_before <= num_prompt <= num_full:
            self._pin(sequence, num_prompt)
        return exchanged

    def leave(self, sequence: Sequence, *, trusted: bool = True) -> None:
        """Take its pages back; what is full stays cached, unless its content is not to be trusted."""
        if trusted:
            self.pool.release(sequence.pages)
        else:
            self.pool.discard(sequence.pages)
        sequence.pages, sequence.num_registered = [], 0
        sequence.standing.num_computed = sequence.standing.num_pages = 0

    def close(self) -> None:
        """Give the disk back."""
        if self.shelf is not None:
            self.shelf.spill.close()

    def _known(self, sequence: Sequence) -> list[int]:
        return self.tree.find(self._reusable_keys(sequence)) if self.reuses else []

    def _reusable_keys(self, sequence: Sequence) -> list[bytes]:
        return sequence.block_keys(sequence.num_reusable() // self.page_tokens, self.page_tokens)

    def _pin(self, sequence: Sequence, num_blocks: int) -> None:
        """Keep the blocks of its prompt, the first ones first, as far as the quotas go."""
        submit, tree = sequence.request.submit, self.tree
        assert submit.pin_s is not None
        left = min(
            int(self._info.num_pages * PINNED_SHARE) - tree.num_pinned(),
            int(self._info.num_pages * PINNED_SHARE_TENANT) - tree.num_pinned(submit.tenant),
        )
        for page in sequence.pages[:num_blocks]:
            if not tree.is_pinned(page):
                left -= 1
                if left < 0:
                    return
            tree.pin(page, submit.arrived_at + submit.pin_s)

    # Cold blocks.

    def _on_evict(self, key: bytes, page: int) -> None:
        shelf = self.shelf
        if shelf is not None and key not in shelf.spill and shelf.is_worth(0, self.page_tokens):
            shelf.spill.put(key, shelf.runtime.read_pages([page])[0])

    def _spilled(self, sequence: Sequence, num_known: int) -> list[bytes]:
        """Keys of the blocks that follow the known ones and are worth reading back."""
        keys: list[bytes] = []
        if self.reuses and self.shelf is not None and len(self.shelf.spill):
            for key in self._reusable_keys(sequence)[num_known:]:
                start = (num_known + len(keys)) * self.page_tokens
                if key not in self.shelf.spill or not self.shelf.is_worth(start, self.page_tokens):
                    break
                keys.append(key)
        return keys

    def _restore(self, sequence: Sequence, num_known: int) -> list[int]:
        """Pages of the blocks that could be read back, held by this sequence."""
        pages: list[int] = []
        for key in self._spilled(sequence, num_known):
            if resident := self.tree.find([key]):  # its parent had been given up before it
                self.pool.share(resident)
                pages += resident
                continue
            page = self.pool.take()
            assert self.shelf is not None
            if not self.shelf.read(key, page):
                self.pool.release([page])
                break
            self.tree.add(key, page, sequence.request.submit.tenant)
            pages.append(page)
            self.num_restored += 1
        return pages
