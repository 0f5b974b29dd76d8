"""What a tokenizer is, wherever it was read from: the library's own JSON form, and the facts that stand beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from isochrone.errors import BadModel

NUM_TOKENS_MAX = 1 << 22  # sixteen times the largest vocabulary in use; beyond it a file is lying

TOKENS_THAT_END_A_TURN = (
    "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|endoftext|>", "<|end|>", "<end_of_turn>",
    "<|end_of_turn|>", "<|END_OF_TURN_TOKEN|>", "<|return|>", "<｜end▁of▁sentence｜>", "<EOT>", "</s>",
)  # fmt: skip
"""Control tokens with which models end an answer; a GGUF file names only one or two of those its model uses."""


@dataclass(frozen=True, slots=True)
class TokenizerSpec:
    """A tokenizer as read from a checkpoint.

    library         the form of tokenizer.json, which the `tokenizers` library loads
    tokens          the text of each id as the vocabulary spells it; None where an id has no token
    special_ids     control tokens: never part of the text
    bos_id          the token that begins a text, if there is one
    eos_ids         the tokens that end an answer
    chat_template   the model's own, if it has one
    named_tokens    "bos_token", "eos_token", ... as chat templates refer to them
    """

    library: Mapping[str, Any]
    tokens: Sequence[str | None]
    special_ids: frozenset[int]
    bos_id: int | None = None
    eos_ids: tuple[int, ...] = ()
    chat_template: str | None = None
    named_tokens: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, id in (("bos", self.bos_id), *(("eos", id) for id in self.eos_ids)):
            if id is not None and not 0 <= id < len(self.tokens):
                raise BadModel(
                    f"The {name} token has id {id}, but the tokenizer has {len(self.tokens)} tokens.",
                    fix="Use a complete copy of the model; this tokenizer does not belong to it.",
                )


def special_token(id: int, text: str, *, special: bool) -> dict[str, Any]:
    """An entry of `added_tokens`: cut out of the text before anything else looks at it."""
    return {
        "id": id, "content": text, "single_word": False, "lstrip": False, "rstrip": False,
        "normalized": False, "special": special,
    }  # fmt: skip


def surround(before: Sequence[tuple[str, int]], after: Sequence[tuple[str, int]]) -> dict[str, Any] | None:
    """The post-processor that puts tokens before and after every text, or None when there is nothing to put."""
    if not before and not after:
        return None
    put = [{"SpecialToken": {"id": text, "type_id": 0}} for text, _ in before]
    end = [{"SpecialToken": {"id": text, "type_id": 0}} for text, _ in after]
    return {
        "type": "TemplateProcessing",
        "single": [*put, {"Sequence": {"id": "A", "type_id": 0}}, *end],
        "pair": [*put, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}, *end],
        "special_tokens": {text: {"id": text, "ids": [id], "tokens": [text]} for text, id in (*before, *after)},
    }
