"""The error tree: every failure the world can cause, each with a sentence and a way out."""

from __future__ import annotations


class IsochroneError(Exception):
    """A failure that a user can understand and act on.

    message  the sentence: what was found, where, and what was expected
    fix      what the reader can do about it
    """

    status = 500
    code = "internal_error"

    def __init__(self, message: str, *, fix: str) -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.message} {self.fix}"


class BadRequest(IsochroneError):
    """The caller asked for something that cannot be done as asked."""

    status = 400
    code = "invalid_request_error"

    def __init__(self, message: str, *, fix: str, param: str | None = None) -> None:
        super().__init__(message, fix=fix)
        self.param = param


class ContextTooLong(BadRequest):
    """The prompt and the answer do not fit the context."""

    code = "context_length_exceeded"


class BadGrammar(BadRequest):
    """A JSON schema, regular expression or grammar that cannot be used.

    keyword  of the schema, where one is at fault
    """

    code = "invalid_grammar"

    def __init__(
        self, message: str, *, fix: str, param: str | None = "response_format", keyword: str | None = None
    ) -> None:
        super().__init__(message, fix=fix, param=param)
        self.keyword = keyword


class NotAllowed(IsochroneError):
    """The key is missing, wrong, or may not do this."""

    status = 401
    code = "invalid_api_key"


class NotFound(IsochroneError):
    """No such model, path or record."""

    status = 404
    code = "not_found"


class Overloaded(IsochroneError):
    """The work cannot be taken now; it may be later.

    retry_after_s  when to ask again, seconds
    """

    status = 503
    code = "overloaded"

    def __init__(self, message: str, *, fix: str, retry_after_s: float) -> None:
        super().__init__(message, fix=fix)
        self.retry_after_s = retry_after_s


class CannotMeet(Overloaded):
    """The budget cannot be met with what is queued already.

    predicted_s  seconds until the first token, if it were taken
    """

    code = "budget_unreachable"

    def __init__(self, message: str, *, fix: str, retry_after_s: float, predicted_s: float = 0.0) -> None:
        super().__init__(message, fix=fix, retry_after_s=retry_after_s)
        self.predicted_s = predicted_s


class Throttled(Overloaded):
    """A provider takes no more of these requests for now."""

    status = 429
    code = "throttled"


class NoPlace(CannotMeet):
    """No place of the fleet can take this request as it is asked.

    Raised when every place is ruled out, or, for `strict` callers, when none is likely to meet the budget.
    """

    code = "no_place"


class SpendingLimit(IsochroneError):
    """The key has spent what it may."""

    status = 429
    code = "insufficient_quota"


class SpendingHeld(Overloaded):
    """What is left of the key's money may be needed by its requests that run; it may be free when they are over."""

    status = 429
    code = "spending_held"


class LedgerDown(Overloaded):
    """What this request may cost, or changes, cannot be written down, so it is not begun."""

    code = "ledger_down"


class DeadlineExceeded(IsochroneError):
    """The deadline passed before the first token."""

    status = 504
    code = "deadline_exceeded"


class Unreachable(IsochroneError):
    """A place does not answer."""

    status = 502
    code = "unreachable"


class BrokenOff(Unreachable):
    """An answer had begun when its place failed, and no other place could go on with it.

    num_prompt, num_answer  tokens of what was answered;  cost_usd: what it cost
    """

    code = "broken_off"

    def __init__(
        self, message: str, *, fix: str, num_prompt: int = 0, num_answer: int = 0, cost_usd: float = 0.0
    ) -> None:
        super().__init__(message, fix=fix)
        self.num_prompt, self.num_answer, self.cost_usd = num_prompt, num_answer, cost_usd


class PlaceRefused(Unreachable):
    """A provider does not accept our credentials, or does not let them use this model."""

    code = "place_refused"


class ContentFiltered(IsochroneError):
    """A provider's filter refused the prompt or its answer.

    reason  in the provider's word
    """

    status = 422
    code = "content_filter"

    def __init__(self, message: str, *, fix: str, reason: str = "") -> None:
        super().__init__(message, fix=fix)
        self.reason = reason


class SequenceFailed(IsochroneError):
    """One sequence produced numbers that are not finite and was taken out of the batch."""

    status = 500
    code = "sequence_failed"


class EngineDied(Unreachable):
    """The engine process ended while it held this request, and could not be brought back."""

    code = "engine_died"


class BadModel(IsochroneError):
    """A model file is broken, lies about itself, or is of a kind not supported."""

    status = 422
    code = "bad_model"


class BadConfig(IsochroneError):
    """A setting, a flag or an environment variable has a value that cannot be used."""

    status = 500
    code = "bad_config"


class MissingExtra(IsochroneError):
    """An optional part is not installed."""

    status = 500
    code = "missing_extra"


class Unsupported(IsochroneError):
    """This machine, platform or instruction set cannot run what was asked."""

    status = 501
    code = "unsupported"


class OutOfMemory(IsochroneError):
    """The model, its context or its cache does not fit the memory that is free."""

    status = 507
    code = "out_of_memory"
