"""Who may ask, and as whom: one gate for every path, closed by default.

Every path but the three probes needs a key as soon as there is one: from `isochrone keys add`, or ISOCHRONE_API_KEY.
Without any, the server listens on loopback only.  On loopback it answers only requests that were meant for it: a page
in a browser can be made to send requests here under another host's name (DNS rebinding), and those carry that name in
`Host`, their page in `Origin`, or say themselves that they come from elsewhere (`Sec-Fetch-Site`).
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from isochrone.errors import BadConfig, NotAllowed
from isochrone.ledger.keys import Key, Keyring, Scope, digest_of, tenant_of

from .faults import NotAllowedHere, ScopeMissing

LOCAL_TENANT = "local"
OPEN_PATHS = frozenset({"/health", "/ready", "/livez"})
SCOPES: dict[str, Scope] = {"/metrics": "observe", "/version": "observe"}
"""What a key must have been made for; `infer` everywhere else."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose request this is.  key  with the limits it was made with; None for a probe, loopback, the setting's key"""

    tenant: str
    key: Key | None = None


class Access:
    """The rule of one server.

    api_key  the one key of the settings, which may do everything
    keyring  further keys, each a tenant of its own

    Once there was a key, one is needed until the server stops: revoking the last one opens nothing.
    """

    def __init__(self, host: str, api_key: str | None = None, keyring: Keyring | None = None) -> None:
        self._is_local = is_loopback(host)
        self._digest = None if api_key is None else digest_of(api_key.encode())
        self._keyring = keyring
        self._is_guarded = api_key is not None
        if not self.is_guarded and not self._is_local:
            raise BadConfig(
                f"Listening on {host} would answer anyone who reaches this machine, and there is no API key.",
                fix="Make one with `isochrone keys add NAME`, set ISOCHRONE_API_KEY, or listen on 127.0.0.1.",
            )

    @property
    def is_guarded(self) -> bool:
        """Whether a key is needed."""
        if not self._is_guarded and self._keyring:
            self._is_guarded = True
        return self._is_guarded

    def caller(self, path: str, headers: Mapping[bytes, bytes]) -> Caller:
        """Whose request this is.  Raises NotAllowed, NotAllowedHere, ScopeMissing."""
        if self._is_local:
            _expect_meant_for_here(headers)
        if path in OPEN_PATHS or not self.is_guarded:
            return Caller(LOCAL_TENANT)
        digest = digest_of(given_key(headers))
        if self._digest is not None and hmac.compare_digest(digest, self._digest):
            return Caller(tenant_of(digest))
        key = self._keyring.find(digest) if self._keyring else None
        if key is None:
            raise NotAllowed(
                "The API key is wrong, or was revoked.", fix="Send a live key; `isochrone keys add NAME` makes one."
            )
        scope = SCOPES.get(path, "infer")
        if scope not in key.scopes:
            raise ScopeMissing(
                f"The key {key.name} was not made to {scope}.", fix=f"Use a key made with --scope {scope}."
            )
        return Caller(key.tenant, key)


def given_key(headers: Mapping[bytes, bytes]) -> bytes:
    """The key of a request: `Authorization: Bearer KEY` as OpenAI's clients send it, or Anthropic's `x-api-key`.

    Raises NotAllowed when there is none, or two that differ.
    """
    scheme, _, bearer = headers.get(b"authorization", b"").partition(b" ")
    if scheme and scheme.lower() != b"bearer":
        raise NotAllowed("The Authorization header is not of the kind Bearer.", fix=_SEND)
    keys = {key for key in (bearer.strip(), headers.get(b"x-api-key", b"").strip()) if key}
    if not keys:
        raise NotAllowed("This server needs an API key.", fix=_SEND)
    if len(keys) > 1:
        raise NotAllowed("The Authorization and x-api-key headers hold different keys.", fix="Send one of them.")
    return keys.pop()


_SEND = "Send it as `Authorization: Bearer KEY` or as `x-api-key: KEY`."


def is_loopback(host: str) -> bool:
    """Whether an address or name means this machine only.  `127.example.org` is a name, and may mean any machine."""
    name = host.strip("[]").lower()
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")


_MEANT_FOR_HERE: set[tuple[bytes, bytes]] = set()
"""Hosts and origins that were found to name this machine: callers say the same few again and again."""
NUM_REMEMBERED, REMEMBERED_BYTES_MAX = 64, 128


def _is_meant_for_here(raw: bytes, header: bytes) -> bool:
    if not is_loopback(_name(raw.decode("latin-1"), header)):
        return False
    if len(_MEANT_FOR_HERE) < NUM_REMEMBERED and len(raw) <= REMEMBERED_BYTES_MAX:
        _MEANT_FOR_HERE.add((raw, header))
    return True


def _expect_meant_for_here(headers: Mapping[bytes, bytes]) -> None:
    for header in (b"host", b"origin"):
        raw = headers.get(header, b"")
        if raw and (raw, header) not in _MEANT_FOR_HERE and not _is_meant_for_here(raw, header):
            value = raw.decode("latin-1")
            raise NotAllowedHere(
                f"The {header.decode()} header says {value[:80]!r}, but this server answers only for this machine.",
                fix="Use http://127.0.0.1 or http://localhost. To serve others, bind their address and make a key.",
            )
    if headers.get(b"sec-fetch-site", b"").lower() == b"cross-site":
        raise NotAllowedHere(
            "A page of another site sent this request.", fix="Open the address in the browser itself, or use a client."
        )


def _name(value: str, header: bytes) -> str:
    try:
        return urlsplit(value if header == b"origin" else f"//{value}").hostname or value
    except ValueError:
        return value
