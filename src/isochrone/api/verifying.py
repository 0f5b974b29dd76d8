"""Computing an answer again from its receipt, and comparing it token for token."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from isochrone.errors import BadRequest, IsochroneError, NotFound
from isochrone.places.place import Receipt

if TYPE_CHECKING:
    from isochrone.config import Settings
    from isochrone.engine.local import LocalEngine
    from isochrone.engine.records import Submit
    from isochrone.text import Tokenizer

RECEIPT_BYTES_MAX = 16 << 20


@dataclass(frozen=True, slots=True)
class Verdict:
    """is_same         every token came again
    num_tokens       of the answer;  num_same: how many came again before the first that did not
    same_model       the model's files are those of the receipt; None when the receipt does not say
    same_numbers     the numeric class is that of the receipt: where it is not, other tokens are no contradiction
    error            why the answer could not be computed to its end
    seconds          that it took
    """

    is_same: bool
    num_tokens: int
    num_same: int
    same_model: bool | None
    same_numbers: bool
    error: str
    seconds: float

    @property
    def summary(self) -> str:
        """One sentence for people."""
        if self.is_same:
            return f"All {self.num_tokens} tokens came again in {self.seconds:.2f} s."
        if self.same_model is False:
            return "These are not the files of the model that gave the answer."
        sentence = f"{self.num_same} of {self.num_tokens} tokens came again, and then another one."
        if self.error:
            sentence = f"{self.num_same} of {self.num_tokens} tokens came again, and then: {self.error}"
        if self.same_numbers:
            return f"{sentence} This is not what was computed."
        return f"{sentence} This machine computes in another numeric class, where answers may differ."


def read_receipts(named: str) -> list[Receipt]:
    """The receipts in a file, or those that the ledger has of a request.  Raises BadRequest, NotFound."""
    path = Path(named)
    if path.is_file():
        if path.stat().st_size > RECEIPT_BYTES_MAX:
            raise BadRequest(f"{named} is too large for a receipt.", fix="Name the file with the receipt itself.")
        return parse_receipts(path.read_bytes())
    from isochrone.config import ledger_where, resolve
    from isochrone.ledger import receipts_of

    found = receipts_of(ledger_where(resolve().settings), named)
    if not found:
        raise NotFound(
            f"There is no file {named}, and the ledger has no receipt of a request with that id.",
            fix="Ask for a receipt with the header `isochrone-receipt: 1`, and name the answer's x-request-id.",
        )
    return [receipt for body in found for receipt in parse_receipts(body)]


def parse_receipts(body: bytes) -> list[Receipt]:
    """A receipt as JSON, a list of them, or an answer with some inside.  Raises BadRequest."""
    try:
        outer = msgspec.json.decode(body)
        if isinstance(outer, dict) and isinstance(ours := outer.get("isochrone"), dict):
            outer = ours.get("receipts") or ours.get("receipt")
        found = msgspec.convert(outer if isinstance(outer, list) else [outer], list[Receipt], strict=False)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"This is no receipt: {error}.", fix="Pass it on as the server gave it.") from None
    if not found:
        raise BadRequest("There is no receipt in it.", fix="Ask for one with the header `isochrone-receipt: 1`.")
    return found


def verify(receipt: Receipt, settings: Settings, *, model: str | None = None) -> Verdict:
    """Load the model and compute the answer again.

    model  a short name, a path or a hub id; the receipt's own unless given
    Raises NotFound, BadModel, BadRequest, and what loading raises.
    """
    from isochrone.engine.local import LocalEngine
    from isochrone.weights.content import content_hash

    from .loading import load_model, loading_of
    from .reading import locate

    name = model or receipt.model
    if not name:
        raise BadRequest("The receipt does not name its model.", fix="Name it with --model.")
    path = locate(name, offline=settings.offline)
    same_model = content_hash(path) == receipt.model_hash if receipt.model_hash else None
    began_at = time.monotonic()
    runtime = load_model(**loading_of(path, settings))
    with closing(runtime):
        engine = LocalEngine(runtime, load_tokens=_tokens_of(path))
        expect_tokens(receipt, engine.info.vocab_size)
        found, error = _replay(engine, to_submit(receipt))
    num_same = _num_same(found, receipt.answer_ids)
    is_same = num_same == len(receipt.answer_ids) and same_model is not False
    return Verdict(
        is_same, len(receipt.answer_ids), num_same, same_model, engine.info.plan_hash == receipt.plan_hash, error,
        time.monotonic() - began_at,
    )  # fmt: skip


def to_submit(receipt: Receipt) -> Submit:
    """The request that draws these tokens again: exactly so many, whatever ended the answer then.

    Raises BadRequest for what a server would refuse.
    """
    from isochrone.engine.records import Grammar, SamplingParams, Submit

    grammar = None
    if receipt.grammar is not None:
        kind, source = receipt.grammar
        if kind not in ("json_schema", "regex", "lark"):
            raise BadRequest(f"The receipt has a grammar of the kind {kind[:40]!r}.", fix="Pass it on as it was given.")
        grammar = Grammar(kind, source)  # type: ignore[arg-type]  # one of the three
    drawn = receipt.sampling
    return Submit(
        prompt_ids=list(receipt.prompt_ids), max_tokens=len(receipt.answer_ids), eos_ids=(),
        sampling=SamplingParams(
            temperature=drawn.temperature, top_k=drawn.top_k, top_p=drawn.top_p, min_p=drawn.min_p,
            repetition_penalty=drawn.repetition_penalty, presence_penalty=drawn.presence_penalty,
            frequency_penalty=drawn.frequency_penalty, logit_bias=drawn.logit_bias, seed=receipt.seed,
            n=receipt.sample + 1, ignore_eos=True,
        ),
        grammar=grammar, drafts=False,
    )  # fmt: skip


def expect_tokens(receipt: Receipt, vocab_size: int) -> None:
    """Raises BadRequest when the receipt cannot be one of this model's."""
    ids = (*receipt.prompt_ids, *receipt.answer_ids, *receipt.sampling.logit_bias)
    if not receipt.prompt_ids or receipt.sample < 0 or not all(0 <= id < vocab_size for id in ids):
        raise BadRequest(
            f"The receipt has tokens that this model, with a vocabulary of {vocab_size}, does not know.",
            fix="Name the model that gave the answer with --model.",
        )


def _replay(engine: LocalEngine, submit: Submit) -> tuple[list[int], str]:
    """(the tokens of the last sample, why there are no more)"""
    found: list[int] = []
    if not submit.max_tokens:
        return found, ""
    try:
        with closing(engine.submit(submit)) as deltas:
            for delta in deltas:
                if delta.sample == submit.sampling.n - 1:
                    found += delta.token_ids
    except IsochroneError as error:
        return found, str(error)
    return found, ""


def _num_same(found: list[int], expected: tuple[int, ...]) -> int:
    pairs = zip(found, expected, strict=False)
    return next((at for at, (new, old) in enumerate(pairs) if new != old), min(len(found), len(expected)))


def _tokens_of(path: Path) -> Callable[[], Tokenizer]:
    from .reading import read_tokenizer

    return lambda: read_tokenizer(path)
