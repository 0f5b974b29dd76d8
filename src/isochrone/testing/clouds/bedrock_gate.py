"""Who may in: signatures of version 4 and Bedrock API keys, checked as Amazon checks them.

Nothing is shared with the client's signer.
"""

from __future__ import annotations

import calendar
import hashlib
import hmac
import re
import secrets
import time
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass

SKEW_S_MAX = 300.0
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 +Credential=(?P<key>[^/]+)/(?P<day>\d{8})/(?P<region>[^/]+)/(?P<service>[^/]+)/aws4_request, *"
    r"SignedHeaders=(?P<names>[^,]+), *Signature=(?P<signature>[0-9a-f]{64})"
)


@dataclass(frozen=True, slots=True)
class Issued:
    """Credentials that this cloud gave out.  expires_at  Unix time; None: never"""

    access_key: str
    secret_key: str
    token: str = ""
    expires_at: float | None = None


class Denied(Exception):
    """Why a request may not in, as Amazon says it."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(kind)
        self.kind, self.message = kind, message


def _wrong(message: str) -> Denied:
    return Denied("InvalidSignatureException", message)


class Gate:
    """Gives out credentials and checks what is signed with them.  now  Unix time, seconds"""

    def __init__(self, region: str, now: Callable[[], float], service: str = "bedrock") -> None:
        self.region, self._service, self._now = region, service, now
        self._issued: dict[str, Issued] = {}
        self.bearer = "bedrock-api-key-" + secrets.token_hex(16)
        self.lasting = self.issue(None)

    @property
    def num_issued(self) -> int:
        """Credentials given out so far, the lasting ones included."""
        return len(self._issued)

    def issue(self, lifetime_s: float | None) -> Issued:
        """New credentials: of a session, or (None) ones that last."""
        access_key = ("AKIA" if lifetime_s is None else "ASIA") + secrets.token_hex(8).upper()
        token = "" if lifetime_s is None else secrets.token_urlsafe(60)
        expires_at = None if lifetime_s is None else self._now() + lifetime_s
        issued = Issued(access_key, secrets.token_urlsafe(30), token, expires_at)
        self._issued[access_key] = issued
        return issued

    def expire(self) -> None:
        """The time of every session is over."""
        for key, issued in self._issued.items():
            if issued.token:
                self._issued[key] = Issued(key, issued.secret_key, issued.token, 0.0)

    def check(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> None:
        """Raises Denied.  target  path and query as they came over the wire;  headers: names of any case"""
        lowered = {name.lower(): value for name, value in headers.items()}
        given = lowered.get("authorization")
        if given is None:
            raise Denied("MissingAuthenticationTokenException", "Missing Authentication Token")
        if given.startswith("Bearer "):
            if not hmac.compare_digest(given.removeprefix("Bearer "), self.bearer):
                raise Denied("AccessDeniedException", "Authentication failed: Please make sure your API Key is valid.")
            return
        parts = _AUTHORIZATION.fullmatch(given)
        if parts is None:
            raise Denied("IncompleteSignatureException", "Authorization header requires Credential, SignedHeaders, ...")
        issued = self._known(parts["key"], lowered)
        stamp = lowered.get("x-amz-date", "")
        self._expect_scope(parts, stamp)
        names = parts["names"].split(";")
        for name in lowered:
            if (name == "host" or name.startswith("x-amz-")) and name not in names:
                raise _wrong(f"'{name}' must be a 'SignedHeader' in the AWS Authorization.")
        digest = lowered.get("x-amz-content-sha256")
        if digest not in (None, "UNSIGNED-PAYLOAD", hashlib.sha256(body).hexdigest()):
            raise _wrong("The provided 'x-amz-content-sha256' header does not match what was computed.")
        wanted = _signature(issued.secret_key, parts, stamp, _canonical(method, target, lowered, names, body))
        if not hmac.compare_digest(wanted, parts["signature"]):
            raise _wrong(
                "The request signature we calculated does not match the signature you provided. Check your AWS Secret "
                "Access Key and signing method. Consult the service documentation for details.",
            )

    def _known(self, access_key: str, headers: Mapping[str, str]) -> Issued:
        issued = self._issued.get(access_key)
        if issued is None or headers.get("x-amz-security-token", "") != issued.token:
            raise Denied("UnrecognizedClientException", "The security token included in the request is invalid.")
        if issued.expires_at is not None and issued.expires_at <= self._now():
            raise Denied("ExpiredTokenException", "The security token included in the request is expired")
        return issued

    def _expect_scope(self, parts: re.Match[str], stamp: str) -> None:
        try:
            at = calendar.timegm(time.strptime(stamp, "%Y%m%dT%H%M%SZ"))
        except ValueError:
            raise Denied("IncompleteSignatureException", "Date must be in ISO-8601 'basic format'.") from None
        now = self._now()
        clock = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
        if at < now - SKEW_S_MAX:
            raise _wrong(f"Signature expired: {stamp} is now earlier than {clock} - 5 min.")
        if at > now + SKEW_S_MAX:
            raise _wrong(f"Signature not yet current: {stamp} is still later than {clock}")
        if parts["day"] != stamp[:8]:
            raise _wrong("Date in Credential scope does not match YYYYMMDD from ISO-8601.")
        if parts["region"] != self.region:
            raise _wrong("Credential should be scoped to a valid region.")
        if parts["service"] != self._service:
            raise _wrong(f"Credential should be scoped to correct service: {self._service}")


def _canonical(method: str, target: str, headers: Mapping[str, str], names: list[str], body: bytes) -> str:
    path, _, query = target.partition("?")
    lines = [method, urllib.parse.quote(path, safe="/~"), "&".join(sorted(filter(None, query.split("&"))))]
    lines += [f"{name}:{re.sub(' +', ' ', headers.get(name, '').strip())}" for name in names]
    lines += ["", ";".join(names), headers.get("x-amz-content-sha256") or hashlib.sha256(body).hexdigest()]
    return "\n".join(lines)


def _signature(secret: str, parts: re.Match[str], stamp: str, canonical: str) -> str:
    scope = (parts["day"], parts["region"], parts["service"], "aws4_request")
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = "\n".join(["AWS4-HMAC-SHA256", stamp, "/".join(scope), digest])
    key = ("AWS4" + secret).encode()
    for step in scope:
        key = hmac.digest(key, step.encode(), "sha256")
    return hmac.digest(key, text.encode(), "sha256").hex()
