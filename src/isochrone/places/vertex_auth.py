"""Who we are to Google Cloud: tokens from google-auth, renewed before they end and never on the way of a request.

google-auth finds and exchanges credentials (a service account's key, the metadata server, workload identity, a user's
own) and knows how long a token is good; it blocks, so it works in a thread.
"""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any

from isochrone.errors import BadConfig, DeadlineExceeded, MissingExtra, PlaceRefused, Unreachable

SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
HTTP_S = 30.0
"""For one exchange with a token endpoint."""


class GoogleAuth:
    """Tokens of one identity.

    info     what a credentials file holds;  None: as google-auth finds it (application default credentials)
    project  the one that the credentials name; empty until they are loaded, or where they name none
    num_renewed  tokens taken so far
    """

    def __init__(self, info: Mapping[str, Any] | None = None) -> None:
        _expect_google_auth()
        self._info = info
        self._credentials: Any = None
        self._renewing: asyncio.Task[None] | None = None
        self.project = ""
        self.num_renewed = 0

    @classmethod
    def from_file(cls, path: Path) -> GoogleAuth:
        """Raises BadConfig when it cannot be read."""
        try:
            info = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise BadConfig(
                f"{path} holds no Google credentials: {error}.",
                fix="Name the JSON file of a service account or of a workload identity pool.",
            ) from error
        return cls(info)

    async def headers(self, left_s: float | None = None) -> dict[str, str]:
        """What goes with a request.  Waits only where there is no good token; one that ends soon is renewed beside it.

        left_s  after so long nobody waits
        Raises PlaceRefused, Unreachable, DeadlineExceeded.
        """
        from google.auth.credentials import TokenState

        state = TokenState.INVALID if self._credentials is None else self._credentials.token_state
        if state != TokenState.FRESH:
            renewing = self._renew()
            if state == TokenState.INVALID:
                await _waited(renewing, left_s)
        headers = {"authorization": f"Bearer {self._credentials.token}"}
        if self._credentials.quota_project_id:
            headers["x-goog-user-project"] = self._credentials.quota_project_id
        return headers

    async def recovers(self, refused: Mapping[str, str], left_s: float | None = None) -> bool:
        """Whether it is worth asking once more after a refusal: another token than the refused one is at hand."""
        if f"Bearer {self._credentials.token}" == refused.get("authorization"):
            await _waited(self._renew(), left_s)
        return True

    async def close(self) -> None:
        if self._renewing is not None:
            self._renewing.cancel()

    def _renew(self) -> asyncio.Task[None]:
        """One exchange at a time, whoever waits for it."""
        if self._renewing is None or self._renewing.done():
            self._renewing = asyncio.create_task(self._renewed(), name="google-token")
            self._renewing.add_done_callback(_retrieve)
        return self._renewing

    async def _renewed(self) -> None:
        await asyncio.to_thread(self._exchange)
        self.num_renewed += 1

    def _exchange(self) -> None:
        from google.auth import exceptions

        try:
            if self._credentials is None:
                self._credentials, self.project = _load(self._info)
            self._credentials.refresh(Transport())
        except exceptions.TransportError as error:
            raise Unreachable(
                f"Google's token endpoint does not answer: {error}.", fix="See the way to it, or ask another place."
            ) from error
        except (exceptions.GoogleAuthError, ValueError) as error:
            raise PlaceRefused(
                f"Google gives no token to these credentials: {str(error)[:500]}.",
                fix="Renew them (gcloud auth application-default login), or name a service account's file.",
            ) from error


async def _waited(renewing: asyncio.Task[None], left_s: float | None) -> None:
    """The exchange goes on for others when one caller's time is over."""
    try:
        async with asyncio.timeout(None if left_s is None else max(0.0, left_s)):
            await asyncio.shield(renewing)
    except TimeoutError:
        raise DeadlineExceeded(
            "Google's token had not come when the time was over.", fix="Allow more time, or ask another place."
        ) from None


def _retrieve(task: asyncio.Task[None]) -> None:
    """A renewal that fails beside a good token is tried again with the next request; whoever waits hears of it."""
    if not task.cancelled():
        task.exception()


def _load(info: Mapping[str, Any] | None) -> tuple[Any, str]:
    """(credentials, the project they name)"""
    if info is None:
        import google.auth

        credentials, project = google.auth.default(scopes=SCOPES, request=Transport())
        return credentials, project or ""
    return _of_kind(dict(info)), str(info.get("project_id") or info.get("quota_project_id") or "")


def _of_kind(info: dict[str, Any]) -> Any:
    kind = info.get("type")
    if kind == "service_account":
        from google.oauth2 import service_account

        return service_account.Credentials.from_service_account_info(info, scopes=SCOPES)
    if kind == "authorized_user":
        from google.oauth2 import credentials

        return credentials.Credentials.from_authorized_user_info(info, scopes=SCOPES)
    if kind == "impersonated_service_account":
        from google.auth import impersonated_credentials

        return impersonated_credentials.Credentials.from_impersonated_service_account_info(info, scopes=SCOPES)
    if kind == "external_account":
        return _federated(info)
    raise ValueError(f"their type is {kind!r}, which is not known here")


def _federated(info: dict[str, Any]) -> Any:
    """Workload identity: another cloud's or an identity provider's word is exchanged for Google's."""
    from google.auth import aws, identity_pool, pluggable

    source = info.get("credential_source") or {}
    if str(source.get("environment_id", "")).startswith("aws"):
        return aws.Credentials.from_info(info, scopes=SCOPES)
    kind = pluggable.Credentials if "executable" in source else identity_pool.Credentials
    return kind.from_info(info, scopes=SCOPES)


@dataclass(frozen=True, slots=True)
class _Response:
    """What google-auth reads of an answer.  headers  found in either case"""

    status: int
    headers: Message
    data: bytes


class Transport:
    """HTTP for google-auth, by the standard library: a token a quarter of an hour needs no pool."""

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **kwargs: Any,
    ) -> _Response:
        from google.auth import exceptions

        data = body.encode() if isinstance(body, str) else body
        request = urllib.request.Request(url, data=data, headers=dict(headers or {}), method=method)
        try:
            with urllib.request.urlopen(request, timeout=timeout or HTTP_S) as answer:
                return _Response(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as error:
            return _Response(error.code, error.headers, error.read())
        except (OSError, ValueError) as error:
            raise exceptions.TransportError(error) from error


def _expect_google_auth() -> None:
    from importlib.util import find_spec

    if find_spec("google") is None or find_spec("google.auth") is None:
        raise MissingExtra(
            "Vertex AI needs google-auth, which is not installed.", fix="pip install 'isochrone[vertex]'"
        )
