"""The words of the step's table: what every kernel may read of the step that is running.

The host writes it before a step; `AttentionItems` and the driver fill the words marked with *.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Literal


class Word(IntEnum):
    """Index of a 64-bit word."""

    TOKENS = 0  # tokens in this step
    ROWS = 1  # * logit rows in the panel that is running
    ATTEND_ITEMS = 2  # *
    COMBINE_ITEMS = 3  # *
    SEQUENCES = 4
    TOTAL_ROWS = 5
    FIRST_ROW = 6  # * first logit row of the panel
    ONE = 7  # the number 1: extent of a region that runs once
    TOKEN_IDS = 8  # address of i32 [tokens]
    POSITIONS = 9  # address of i32 [tokens]
    TOKEN_SEQUENCES = 10  # address of i32 [tokens]
    STARTS = 11  # address of i32 [sequences + 1]
    PAGES = 12  # address of i32 [sequences, pages_max]
    PAGES_ROW_BYTES = 13
    PANEL_ROWS = 14  # * address of i32 [rows]: the tokens whose logits this panel holds
    LOGIT_ROWS = 15  # address of i32 [total rows]
    ITEMS = 16  # address of attention items
    COMBINES = 17  # address of combine items
    PARTIAL_ROWS_MAX = 18  # rows of partial sums that fit
    POISON = 19  # address of i32 [sequences]: set where a key or a value is not finite
    NUM_TOP = 20
    TEMPERATURE = 21
    TOP_K = 22
    TOP_P = 23
    MIN_P = 24
    UNIFORM = 25
    TARGETS = 26
    EDIT_STARTS = 27
    EDIT_TOKENS = 28
    EDIT_FACTORS = 29
    EDIT_DELTAS = 30
    MASK = 31  # address of u32 [total rows, words], or 0
    OUT_TOKENS = 32
    OUT_LOGPROBS = 33
    OUT_FINITE = 34
    OUT_TOP_TOKENS = 35
    OUT_TOP_LOGPROBS = 36
    NUM_WORDS = 40


PAGE_TOKENS = 32
"""Positions in one page of the KV cache."""
CHUNK = 256
"""Positions whose attention is summed on its own: the unit of splitting, so that results never depend on it."""
SUBCHUNK = 64
"""Positions of one online-softmax step: two pages."""
ROWS_PANEL = 32
"""Logit rows computed at once: a matrix of prompt x vocabulary never exists."""
ANGLE_STEP = 64
"""Positions are split into high * 64 + low, and their angles added: two small tables reach any context."""

KvType = Literal["bf16", "int8"]
"""Number type of the KV cache (layout of a page: pages.py)."""


def elements_per_lane(kv: KvType) -> int:
    """Elements in one 32-bit lane."""
    return 2 if kv == "bf16" else 4


def values_offset(head_dim: int, kv: KvType) -> int:
    """Bytes from the start of a page to its values."""
    return 2 * PAGE_TOKENS * head_dim if kv == "bf16" else PAGE_TOKENS * head_dim + 4 * PAGE_TOKENS


def page_bytes(head_dim: int, kv: KvType = "bf16") -> int:
    """Bytes of one page of one KV head."""
    return 2 * values_offset(head_dim, kv)


def scales_offset(head_dim: int) -> int:
    """int8: bytes from the start of keys (or values) to their scales."""
    return PAGE_TOKENS * head_dim
