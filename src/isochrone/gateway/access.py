"""Who may ask, and as whom: one gate for every path, closed by default.

With a key set, every path but `/health` and `/ready` needs it.  Without one the server listens on loopback only, and
then it answers only requests that were meant for loopback: a page in a browser can be made to send requests here under
another host's name (DNS rebinding), and those carry that name in `Host`, or their page in `Origin`.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from isochrone.errors import BadConfig, NotAllowed

from .faults import NotAllowedHere

LOCAL_TENANT = "local"
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
OPEN_PATHS = frozenset({"/health", "/ready"})


@dataclass(frozen=True, slots=True)
class Access:
    """The rule of one server.  api_key  None admits everyone who reaches loopback"""

    host: str
    api_key: str | None = None

    def __post_init__(self) -> None:
        if self.api_key is None and not is_loopback(self.host):
            raise BadConfig(
                f"Listening on {self.host} would answer anyone who reaches this machine, and no API key is set.",
                fix="Set ISOCHRONE_API_KEY, or listen on 127.0.0.1.",
            )

    def tenant(self, path: str, headers: Mapping[bytes, bytes]) -> str:
        """Whose request this is.  Raises NotAllowed or NotAllowedHere."""
        if is_loopback(self.host):
            _expect_local_names(headers)
        if self.api_key is None or path in OPEN_PATHS:
            return LOCAL_TENANT
        given = headers.get(b"authorization", b"")
        scheme, _, key = given.partition(b" ")
        if scheme.lower() != b"bearer" or not key:
            raise NotAllowed("This server needs an API key.", fix="Send it as `Authorization: Bearer KEY`.")
        if not hmac.compare_digest(_digest(key.strip()), _digest(self.api_key.encode())):
            raise NotAllowed("The API key is wrong.", fix="Send the key that the server was started with.")
        return _digest(key.strip()).hex()[:16]


def is_loopback(host: str) -> bool:
    """Whether an address or name means this machine only."""
    name = host.strip("[]").lower()
    return name in LOOPBACK_NAMES or name.startswith("127.") or name.endswith(".localhost")


def _expect_local_names(headers: Mapping[bytes, bytes]) -> None:
    for header in (b"host", b"origin"):
        value = headers.get(header, b"").decode("latin-1")
        if value and not is_loopback(_name(value, header)):
            raise NotAllowedHere(
                f"The {header.decode()} header says {value[:80]!r}, but this server answers only for this machine.",
                fix="Use http://127.0.0.1 or http://localhost. To serve others, bind their address and set an API key.",
            )


def _name(value: str, header: bytes) -> str:
    try:
        return urlsplit(value if header == b"origin" else f"//{value}").hostname or value
    except ValueError:
        return value


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
