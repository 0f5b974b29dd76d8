"""Compiles the grammars of requests beside the steps, and keeps the last ones: who waits for a grammar waits alone."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

from isochrone.errors import BadGrammar, IsochroneError, Overloaded, Unsupported

from .records import Grammar

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

    from isochrone.text.grammar import Matcher, Tokens, Vocabulary

NUM_KEPT_MAX = 32
NUM_KEPT_BYTES_MAX = 2**20
"""Of sources; a compiled grammar takes up to some tens of times its source, and the states its lexer has met."""
NUM_THREADS = 2
NUM_PENDING_MAX = 64


class Grammars:
    """Used by the engine's thread.

    load_tokens  reads the model's tokens, called once, in a thread, at the first grammar;  vocab_size: length of a row
                 of logits
    """

    def __init__(self, load_tokens: Callable[[], Tokens] | None, vocab_size: int) -> None:
        self._load, self._vocab_size = load_tokens, vocab_size
        self._pool: ThreadPoolExecutor | None = None
        self._first: Future[Vocabulary] | None = None
        self._kept: OrderedDict[Grammar, Matcher] = OrderedDict()
        self._pending: dict[Grammar, Future[Matcher]] = {}
        self._num_kept_bytes = 0

    def find(self, grammar: Grammar, wait_s: float) -> Matcher | None:
        """A matcher at the start of this grammar; None while it is being compiled.

        wait_s  how long to wait for one that is not there
        Raises BadGrammar when it does not compile, Overloaded when too many are being compiled, Unsupported when the
        engine knows no vocabulary.
        """
        kept = self._kept.get(grammar)
        if kept is not None:
            self._kept.move_to_end(grammar)
            return kept.copy()
        future = self._pending.get(grammar) or self._begin(grammar)
        try:
            error = future.exception(wait_s)
        except TimeoutError:
            return None
        del self._pending[grammar]
        if error is not None:
            raise _told(error) from error
        self._keep(grammar, future.result())
        return future.result().copy()

    def _begin(self, grammar: Grammar) -> Future[Matcher]:
        load = self._load
        if load is None:
            raise Unsupported("This engine does not know its model's vocabulary.", fix="Leave the format out.")
        if len(self._pending) >= NUM_PENDING_MAX:
            self._clear_ready()
        if len(self._pending) >= NUM_PENDING_MAX:
            raise Overloaded(
                f"{len(self._pending)} grammars are being compiled already.", fix="Ask again later.", retry_after_s=1.0
            )
        from concurrent.futures import ThreadPoolExecutor  # most requests have no grammar

        from isochrone.text.grammar import Vocabulary, compile_grammar

        self._pool = self._pool or ThreadPoolExecutor(NUM_THREADS, "isochrone-grammar")
        if self._first is None:
            self._first = self._pool.submit(lambda: Vocabulary(load(), self._vocab_size))
        first = self._first
        future = self._pool.submit(lambda: compile_grammar(grammar.kind, grammar.source, first.result()))
        self._pending[grammar] = future
        return future

    def _clear_ready(self) -> None:
        """Whoever asked for what is ready may have left, and will never fetch it."""
        for grammar in [grammar for grammar, future in self._pending.items() if future.done()]:
            future = self._pending.pop(grammar)
            if future.exception() is None:
                self._keep(grammar, future.result())

    def _keep(self, grammar: Grammar, matcher: Matcher) -> None:
        self._kept[grammar] = matcher
        self._num_kept_bytes += len(grammar.source)
        while len(self._kept) > 1 and (
            len(self._kept) > NUM_KEPT_MAX or self._num_kept_bytes > NUM_KEPT_BYTES_MAX
        ):
            dropped, _ = self._kept.popitem(last=False)
            self._num_kept_bytes -= len(dropped.source)


def _told(error: BaseException) -> IsochroneError:
    """The error of a compilation, with a panic of the library as one of the grammar."""
    if isinstance(error, IsochroneError):
        return error
    return BadGrammar(
        f"Compiling the grammar raised {type(error).__name__}: {str(error)[:200]}", fix="Simplify the grammar."
    )
