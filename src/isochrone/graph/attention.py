"""Attention and its position embedding, with the KV cache as the reference sees it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .ir import Cost, Extents, Op, Tensor, expect, op, pointwise_cost

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]


class Cache(Protocol):
    """The KV cache as `Attend` sees it in one step."""

    def sequences(self) -> Iterator[tuple[int, int]]:
        """The token range start..stop of each sequence of the step, in order."""
        ...

    def append(self, layer: int, sequence: int, k: F32, v: F32) -> tuple[F32, F32]:
        """Store the new keys and values; return all of the sequence up to here, in order of position."""
        ...


@op("row")
class Rope(Op):
    """Rotary position embedding, half-split pairing: (d, d + rotary_dim/2) of every head turns by position · inv_freq.

    x [tokens, heads · head_dim], positions i32 [tokens], inv_freq f32 [rotary_dim / 2]; dimensions of a head
    from rotary_dim on pass through.  cos and sin are multiplied by attention_factor (YaRN).  Su et al. 2021.
    """

    heads: int
    head_dim: int
    rotary_dim: int
    attention_factor: float = 1.0

    def shape(self, x: Tensor, positions: Tensor, inv_freq: Tensor) -> Tensor:
        expect(x.width == self.heads * self.head_dim and inv_freq.shape == (self.rotary_dim // 2,),
               f"rope of {self.heads} heads of {self.head_dim} cannot turn {x} by {inv_freq}")  # fmt: skip
        return x

    def cost(self, extents: Extents, x: Tensor, positions: Tensor, inv_freq: Tensor) -> Cost:
        return pointwise_cost(extents, 3, x) + Cost(weight_bytes=inv_freq.num_bytes(extents))

    def reference(self, x: F32, positions: I32, inv_freq: F32) -> F32:
        angle = positions[:, None, None].astype(np.float32) * inv_freq
        cos, sin = np.cos(angle) * np.float32(self.attention_factor), np.sin(angle) * np.float32(self.attention_factor)
        heads = x.reshape(len(x), self.heads, self.head_dim)
        half = self.rotary_dim // 2
        a, b, rest = heads[..., :half], heads[..., half : 2 * half], heads[..., 2 * half :]
        return np.concatenate([a * cos - b * sin, b * cos + a * sin, rest], axis=-1).reshape(x.shape)


@op("attend")
class Attend(Op):
    """Append k and v to the cache of `layer`, then causal attention of q over each sequence's cache.

    q [tokens, heads · head_dim], k and v [tokens, kv_heads · head_dim]; query head h reads KV head
    h // (heads / kv_heads).  window: a token sees the last `window` positions, its own included; None: all.
    """

    layer: int
    heads: int
    kv_heads: int
    head_dim: int
    scale: float
    window: int | None = None
    has_cache = True

    def shape(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        expect(q.width == self.heads * self.head_dim and k.width == v.width == self.kv_heads * self.head_dim
               and self.heads % self.kv_heads == 0, f"{self} cannot take {q}, {k}, {v}")  # fmt: skip
        return q

    def cost(self, extents: Extents, q: Tensor, k: Tensor, v: Tensor) -> Cost:
        seen = extents.depth + 1 if self.window is None else min(extents.depth + 1, self.window)
        cached = (seen + 1) * 2 * k.width * extents.kv_item_bytes  # read what is seen, write the new one
        traffic = 2 * q.num_bytes(extents) + k.num_bytes(extents) + v.num_bytes(extents)
        return Cost(extents.tokens * seen * q.width * 4, 0, traffic + extents.tokens * cached)

    def reference(self, q: F32, k: F32, v: F32, cache: Cache) -> F32:
        out = np.empty_like(q)
        for sequence, (start, stop) in enumerate(cache.sequences()):
            keys, values = cache.append(self.layer, sequence, k[start:stop], v[start:stop])
            out[start:stop] = self._attend(q[start:stop], keys, values)
        return out

    def _attend(self, q: F32, keys: F32, values: F32) -> F32:
        num_new, num_all, share = len(q), len(keys), self.heads // self.kv_heads
        query = q.reshape(num_new, self.kv_heads, share, self.head_dim)
        key = keys.reshape(num_all, self.kv_heads, self.head_dim)
        value = values.reshape(num_all, self.kv_heads, self.head_dim)
        distance = np.arange(num_all - num_new, num_all)[:, None] - np.arange(num_all)
        seen = (distance >= 0) & (distance < (self.window or num_all))
        scores = np.einsum("tgsd,pgd->gstp", query, key, optimize=True) * np.float32(self.scale)
        scores = np.where(seen, scores, np.float32(-np.inf))
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        y: F32 = np.einsum("gstp,pgd->tgsd", weights, value, optimize=True).reshape(q.shape)
        return y
