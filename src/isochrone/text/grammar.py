"""What an answer must be, compiled for a vocabulary: which tokens may come next, and which one must.

llguidance does the work: an Earley parser over derivatives of regular expressions, walked down a trie of the tokens.
Nothing here raises for what a caller sends but BadGrammar, and everything ends: sizes are limited before compiling,
and both compiling and each step run on fuel.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from isochrone.errors import BadGrammar, MissingExtra

from .grammar_closing import Closing
from .grammar_limits import expect_bounded, of_compiler, of_step

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

U32 = NDArray[np.uint32]
Kind = Literal["json_schema", "regex", "lark"]

JSON_FORM = {
    "item_separator": ", ", "key_separator": ": ", "whitespace_flexible": False, "whitespace_pattern": None,
    "coerce_one_of": False, "lenient": False,
}  # fmt: skip
"""Insignificant white space is fixed: an answer cannot run on in blanks, and more of it is forced."""

LIMITS = {
    "max_items_in_row": 2_000, "initial_lexer_fuel": 1_000_000, "step_lexer_fuel": 100_000, "step_max_items": 20_000,
    "max_lexer_states": 8_000, "max_grammar_size": 100_000, "verbose_errors": False,
}  # fmt: skip
"""In llguidance's units: about 20 ms to compile a lexer, 7 ms at worst for a step, 16 MB for the states of a lexer."""


class Tokens(Protocol):
    """What a grammar needs of a tokenizer."""

    num_tokens: int
    bos_id: int | None
    eos_ids: tuple[int, ...]

    def encode(self, text: str, add_special: bool = True) -> list[int]: ...
    def piece(self, id: int) -> bytes: ...
    def is_special(self, id: int) -> bool: ...
    def id_to_token(self, id: int) -> str | None: ...
    def warm(self) -> None: ...


class Vocabulary:
    """The tokens of a model as bytes, and how a text is cut into them.

    num_tokens   length of a row of logits, which may be padded beyond the tokenizer's tokens
    """

    def __init__(self, tokenizer: Tokens, num_tokens: int) -> None:
        self.tokenizer, self.num_tokens = tokenizer, num_tokens
        self.eos_ids = tuple(id for id in tokenizer.eos_ids if id < num_tokens)

    @property
    def num_words(self) -> int:
        """Words of a mask of one bit a token."""
        return -(-self.num_tokens // 32)

    @cached_property
    def trie(self) -> LLTokenizer:
        """The tokens as a trie.  Made at the first grammar: 0.25 s for 49k tokens.  Raises BadGrammar."""
        llguidance = library()
        if not self.eos_ids:
            raise BadGrammar("The model names no token that ends an answer.", fix="Leave the format out.")
        self.tokenizer.warm()  # here, in a thread of its own, and not when a step first cuts a forced text
        cutter = llguidance.TokenizerWrapper(_Cutter(self))
        trie: LLTokenizer = llguidance.LLTokenizer(
            cutter, n_vocab=self.num_tokens, eos_token=list(self.eos_ids)
        )
        return trie


    @cached_property
    def closing(self) -> Closing:
        """What closes a JSON value.  Made with the first one that nears its limit."""
        tokenizer = self.tokenizer
        num = min(self.num_tokens, tokenizer.num_tokens)
        pieces = (b"" if tokenizer.is_special(id) else tokenizer.piece(id) for id in range(num))
        return Closing(pieces, self.eos_ids, self.num_words)


class _Cutter:
    """A tokenizer in the words of llguidance."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        tokenizer, num = vocabulary.tokenizer, min(vocabulary.num_tokens, vocabulary.tokenizer.num_tokens)
        self._tokenizer, self.bos_token_id = tokenizer, tokenizer.bos_id
        self.eos_token_id = vocabulary.eos_ids[0]
        self.special_token_ids = [id for id in range(num) if tokenizer.is_special(id)]
        special = set(self.special_token_ids)
        # A control token is spelled out, so that a grammar can name it; it is no part of any text.
        self.tokens = [
            (tokenizer.id_to_token(id) or "").encode() if id in special else tokenizer.piece(id) for id in range(num)
        ]

    def __call__(self, text: str) -> list[int]:
        if not isinstance(text, str):
            raise TypeError("a text is cut, not its bytes")  # llguidance asks once which of the two it may send
        return self._tokenizer.encode(text, add_special=False)


class Matcher:
    """An answer's place in its grammar.  Used by one thread at a time.

    is_json  the whole answer is one JSON value, so that it is known what would close it
    """

    def __init__(self, inner: LLMatcher, vocabulary: Vocabulary, *, is_json: bool = False) -> None:
        self._inner, self._vocabulary, self.is_json = inner, vocabulary, is_json

    def copy(self) -> Matcher:
        """The same place, to go on from separately; what the lexer has learned is shared."""
        return Matcher(self._inner.deep_copy(), self._vocabulary, is_json=self.is_json)

    @property
    def num_words(self) -> int:
        """Words of a mask."""
        return self._vocabulary.num_words

    @property
    def is_over(self) -> bool:
        """Nothing but an end token may follow."""
        return bool(self._inner.is_stopped())

    def forced(self) -> list[int]:
        """The tokens that must come next, as far as the text leaves no choice."""
        with self._sound():
            return list(self._inner.compute_ff_tokens())

    def mask(self) -> U32:
        """u32 [num_words]: bit t % 32 of word t // 32 says whether token t may come next.  Raises BadGrammar."""
        words = np.zeros(self._vocabulary.num_words, np.uint32)
        with self._sound():
            self._inner.unsafe_compute_mask_ptr(words.ctypes.data, words.nbytes)
        return words

    def closing_mask(self) -> U32:
        """`mask`, of a JSON value narrowed to the tokens that bring it to its end."""
        mask = self.mask()
        return self._vocabulary.closing.narrow(mask) if self.is_json else mask

    def push(self, token: int) -> None:
        """The token follows.  Raises BadGrammar when it may not, or when to know it costs too much."""
        with self._sound():
            self._inner.consume_token(token)

    def pop(self, num_tokens: int) -> None:
        """Take the last tokens back."""
        if num_tokens:
            with self._sound():
                self._inner.rollback(num_tokens)

    @contextmanager
    def _sound(self) -> Iterator[None]:
        """Whatever goes wrong within is said of this grammar, panics of the library too."""
        try:
            yield
        except BaseException as error:
            if type(error).__name__ != "PanicException":
                raise
            raise of_step(str(error)) from error
        if self._inner.is_error():
            raise of_step(self._inner.get_error())


def compile_grammar(kind: Kind, source: str, vocabulary: Vocabulary) -> Matcher:
    """A matcher at the start of its grammar.

    Raises BadGrammar: too large, not well formed, beyond what is supported (the keyword is named), or unsatisfiable.
    """
    llguidance = library()
    expect_bounded(kind, source)
    make = llguidance.LLMatcher
    try:
        match kind:
            case "json_schema":
                grammar = make.grammar_from_json_schema(source, overrides=JSON_FORM)
            case "regex":
                grammar = make.grammar_from_regex(source)
            case "lark":
                grammar = make.grammar_from_lark(source)
    except ValueError as error:
        raise of_compiler(kind, str(error)) from error
    inner = make(vocabulary.trie, grammar, log_level=0, limits=llguidance.LLParserLimits(**LIMITS))
    if inner.is_error():
        raise of_compiler(kind, inner.get_error())
    return Matcher(inner, vocabulary, is_json=kind == "json_schema")


def library() -> Any:
    """llguidance, imported at the first grammar.  Raises MissingExtra."""
    try:
        import llguidance
    except ImportError as error:
        raise MissingExtra(
            "Structured output needs llguidance, which is not installed.", fix="Run pip install 'llguidance>=1.3,<2'."
        ) from error
    return llguidance


__all__ = ["JSON_FORM", "BadGrammar", "Kind", "Matcher", "Vocabulary", "compile_grammar"]
