"""AWS Signature Version 4: headers that prove who asks, for what, and when."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from urllib.parse import quote, urlsplit

ALGORITHM = "AWS4-HMAC-SHA256"
_UNSIGNED = frozenset({
    "authorization", "baggage", "connection", "expect", "keep-alive", "proxy-authenticate", "proxy-authorization", "te",
    "traceparent", "tracestate", "trailer", "transfer-encoding", "upgrade", "user-agent", "x-amzn-trace-id",
})  # fmt: skip
"""Headers that whatever lies between may change."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """An identity at AWS.

    token       of a session that ends;  empty for keys that last
    expires_at  Unix time, seconds;  None: not said
    source      where they were found, for messages
    """

    access_key: str
    secret_key: str = field(repr=False)
    token: str = field(default="", repr=False)
    expires_at: float | None = None
    source: str = ""


def sign(
    method: str,
    url: str,
    headers: dict[str, str],
    body: bytes,
    credentials: Credentials,
    *,
    region: str,
    at: float,
    service: str = "bedrock",
) -> dict[str, str]:
    """The headers to add.

    url      as it goes over the wire, percent-encoded
    headers  that go with the request; all are signed but those that proxies may change
    at       Unix time, seconds
    """
    stamp = datetime.fromtimestamp(at, UTC).strftime("%Y%m%dT%H%M%SZ")
    added = {"X-Amz-Date": stamp}
    if credentials.token:
        added["X-Amz-Security-Token"] = credentials.token
    parts = urlsplit(url)
    signed = {name.lower(): " ".join(value.split()) for name, value in {**headers, **added}.items()}
    signed.setdefault("host", _host(parts.scheme, parts.netloc))
    names = sorted(name for name in signed if name not in _UNSIGNED)
    canonical = "\n".join((
        method.upper(),
        _path(parts.path),
        _query(parts.query),
        *(f"{name}:{signed[name]}" for name in names),
        "",
        ";".join(names),
        hashlib.sha256(body).hexdigest(),
    ))  # fmt: skip
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    to_sign = "\n".join((ALGORITHM, stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()))
    key = _key(credentials.secret_key, stamp[:8], region, service)
    signature = hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()
    added["Authorization"] = (
        f"{ALGORITHM} Credential={credentials.access_key}/{scope}, SignedHeaders={';'.join(names)}, "
        f"Signature={signature}"
    )
    return added


def _host(scheme: str, netloc: str) -> str:
    """As clients send it: without the scheme's usual port."""
    host = netloc.rpartition("@")[2]
    usual = ":443" if scheme == "https" else ":80"
    return host.removesuffix(usual)


def _path(path: str) -> str:
    """Encoded once more than on the wire, without empty and dotted steps: every service but S3 wants it so."""
    steps: list[str] = []
    for step in path.split("/"):
        if step == "..":
            del steps[-1:]
        elif step not in ("", "."):
            steps.append(step)
    ending = "/" if path.endswith("/") and steps else ""
    return quote("/" + "/".join(steps) + ending, safe="/~")


def _query(query: str) -> str:
    pairs = (pair.partition("=") for pair in query.split("&") if pair) if query else ()
    return "&".join(f"{name}={value}" for name, value in sorted((name, value) for name, _, value in pairs))


@lru_cache(maxsize=16)
def _key(secret: str, day: str, region: str, service: str) -> bytes:
    """Good for a day, and asked for with every request."""
    key = b"AWS4" + secret.encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key
