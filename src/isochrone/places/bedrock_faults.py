"""Amazon's exceptions as our errors, whether they come as a status or in the middle of a stream."""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime

from isochrone.errors import (
    BadRequest,
    ContentFiltered,
    ContextTooLong,
    IsochroneError,
    NotFound,
    Overloaded,
    PlaceRefused,
    Throttled,
    Unreachable,
)

EXPIRED = frozenset({"expiredtoken", "expiredtokenexception"})
RETRY_AFTER_S, DAY_QUOTA_S = 1.0, 3600.0
"""When to come again where Amazon does not say; quotas of a day come back slowly."""
_THROTTLED = ("throttling", "toomanyrequests", "servicequotaexceeded", "requestlimitexceeded", "slowdown")
_BUSY = ("modelnotready", "serviceunavailable")
_REFUSED = (
    "accessdenied", "unrecognizedclient", "invalidsignature", "signaturedoesnotmatch", "expiredtoken",
    "missingauthenticationtoken", "incompletesignature", "invalidclienttokenid", "optinrequired", "notauthorized",
    "invalidaccesskeyid", "requestexpired",
)  # fmt: skip
_TOO_LONG = re.compile(
    r"too long|too many (input )?tokens|maximum context|context (length|window)|exceeds? the maximum (number of )?"
    r"(input )?tokens|input tokens? (count )?exceed",
    re.IGNORECASE,
)


def name_of(error_type: str) -> str:
    """`throttling` of `ThrottlingException:http://…` or `com.amazon#ThrottlingException`."""
    return error_type.partition(":")[0].rpartition("#")[2].strip().lower().removesuffix("exception")


def fault(
    error_type: str, message: str, *, status: int, model: str, retry_after_s: float | None = None
) -> IsochroneError:
    """The error that an exception of Amazon's is.  status  0: it came within a stream"""
    name = name_of(error_type)
    said = f"Amazon Bedrock says {error_type.partition(':')[0] or status} for {model}: {message or 'no more than that'}"
    if name.startswith(_BUSY):
        return Overloaded(said, fix="Ask again, or ask another place.", retry_after_s=retry_after_s or RETRY_AFTER_S)
    if name.startswith(_THROTTLED) or (not name and status == 429):
        usual = DAY_QUOTA_S if "per day" in message.lower() else RETRY_AFTER_S
        return Throttled(
            said, fix="Ask again later, or raise the quota of the account.", retry_after_s=retry_after_s or usual
        )
    if name.startswith(_REFUSED) or (not name and status in (401, 403)):
        return PlaceRefused(said, fix=_way_in(name, message))
    if name.startswith("resourcenotfound") or (not name and status == 404):
        return NotFound(said, fix="See which models the account has in this region: aws bedrock list-foundation-models")
    if name.startswith("validation") or (not name and status in (400, 413)):
        if _TOO_LONG.search(message):
            return ContextTooLong(said, fix="Shorten the conversation, or take a model with a longer context.")
        return BadRequest(said, fix="Change the request, or ask another model.")
    return Unreachable(said, fix="Ask again, or ask another place.")


def filtered(reason: str, model: str) -> ContentFiltered:
    """Nothing was said, because a filter stood before it."""
    return ContentFiltered(
        f"Amazon Bedrock's filter let nothing of the answer of {model} through ({reason}).",
        fix="Say it otherwise, or change the guardrail.",
        reason=reason,
    )


def skew_s(message: str, date: str | None, now: float) -> float | None:
    """How far Amazon's clock is ahead of ours, where a wrong clock is why it refused a signature; None where not."""
    if date is None or not re.search(r"signature (has )?expired|not yet current", message, re.IGNORECASE):
        return None
    try:
        return parsedate_to_datetime(date).timestamp() - now
    except ValueError:
        return None


def _way_in(name: str, message: str) -> str:
    if name.startswith("expiredtoken"):
        return "Renew the credentials (aws sso login), or give the gateway a role, which renews itself."
    if name.startswith("accessdenied"):
        return "Allow bedrock:InvokeModelWithResponseStream for this model, and see that the account has access to it."
    if "signature" in name or "signature" in message.lower():
        return "See that the secret key is right, and this machine's clock, too."
    return "See that `aws sts get-caller-identity` works with the same credentials."
