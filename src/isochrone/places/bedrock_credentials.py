"""AWS credentials: found where boto3 would find them, and found again when they expire."""

from __future__ import annotations

import asyncio
import configparser
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from isochrone.errors import BadConfig, IsochroneError, MissingExtra, PlaceRefused

from .bedrock_sign import Credentials

RENEW_BEFORE_S = 60.0
"""A request may wait so long in a queue of ours before Amazon sees its signature."""
_NEEDS_BOTOCORE = (
    "role_arn", "credential_process", "sso_session", "sso_start_url", "web_identity_token_file", "login_session",
)  # fmt: skip


class Source(Protocol):
    """Where credentials come from.  Its methods may block, and are called in a thread."""

    def find(self) -> Credentials: ...

    def renew(self) -> Credentials:
        """As `find`, but nothing remembered counts."""
        ...


class Keyring:
    """The credentials of one place; one search at a time, whoever waits for it.

    now  Unix time, seconds
    """

    def __init__(self, source: Source, now: Callable[[], float]) -> None:
        self._source, self._now = source, now
        self._held: Credentials | None = None
        self._lock = asyncio.Lock()
        self.num_renewed = 0

    async def get(self) -> Credentials:
        """Credentials that are good for now.  Raises PlaceRefused, MissingExtra."""
        held = self._held
        if held is not None and not self._is_ending(held):
            return held
        async with self._lock:
            held = self._held
            if held is None:
                self._held = await self._search(self._source.find)
            elif self._is_ending(held):
                try:
                    self._held = await self._search(self._source.renew)
                except IsochroneError:
                    if self._now() >= (held.expires_at or 0.0):
                        raise
            return self._held or held  # type: ignore[return-value]

    async def replace(self, refused: Credentials) -> Credentials | None:
        """Others than these, which Amazon calls expired; None when there are none."""
        async with self._lock:
            if self._held is None or self._held == refused:
                self._held = await self._search(self._source.renew)
            return None if self._held == refused else self._held

    async def _search(self, search: Callable[[], Credentials]) -> Credentials:
        found = await asyncio.to_thread(search)
        self.num_renewed += 1
        return found

    def _is_ending(self, held: Credentials) -> bool:
        return held.expires_at is not None and held.expires_at - self._now() < RENEW_BEFORE_S


def find_source(profile: str | None, environ: Mapping[str, str]) -> Source:
    """Through botocore where it is installed: all that boto3 knows.  Otherwise the environment and the shared files."""
    try:
        import botocore.session  # noqa: F401
    except ImportError:
        return Plain(profile, environ)
    return Botocore(profile)


class Botocore:
    """All that boto3 knows: environment, shared files, single sign-on, roles, processes, containers, instances."""

    def __init__(self, profile: str | None) -> None:
        self._profile = profile
        self._held: Any = None

    def find(self) -> Credentials:
        import botocore.exceptions

        try:
            if self._held is None:
                self._held = self._session().get_credentials()
            if self._held is None:
                raise _nothing_found("")
            frozen = self._held.get_frozen_credentials()
        except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError, RuntimeError) as error:
            raise PlaceRefused(
                f"The AWS credentials could not be had: {error}",
                fix="See that `aws sts get-caller-identity` works as the gateway's user.",
            ) from error
        expiry: datetime | None = getattr(self._held, "_expiry_time", None)
        return Credentials(
            frozen.access_key,
            frozen.secret_key,
            frozen.token or "",
            None if expiry is None else expiry.timestamp(),
            f"botocore ({self._held.method})",
        )

    def renew(self) -> Credentials:
        self._held = None  # a session reads its files and asks its providers once
        return self.find()

    def _session(self) -> Any:
        import botocore.session

        return botocore.session.Session(profile=self._profile)


class Plain:
    """The environment and the keys in the shared files, read as boto3 reads them; the rest needs botocore, and it is
    said."""

    def __init__(self, profile: str | None, environ: Mapping[str, str]) -> None:
        self._profile, self._environ = profile, environ

    def find(self) -> Credentials:
        environ, profile = self._environ, self._profile
        access_key = environ.get("AWS_ACCESS_KEY_ID")
        if access_key and profile is None:
            token = environ.get("AWS_SECURITY_TOKEN") or environ.get("AWS_SESSION_TOKEN", "")
            expires_at = _unix(environ.get("AWS_CREDENTIAL_EXPIRATION"))
            return _complete(access_key, environ.get("AWS_SECRET_ACCESS_KEY"), token, expires_at, "the environment")
        name = profile or environ.get("AWS_PROFILE") or environ.get("AWS_DEFAULT_PROFILE") or "default"
        credentials_file, config_file = shared_files(environ)
        config = _section(config_file, name if name == "default" else f"profile {name}")
        for file, section in ((credentials_file, _section(credentials_file, name)), (config_file, config)):
            if key := section.get("aws_access_key_id"):
                token = section.get("aws_session_token", "")
                return _complete(key, section.get("aws_secret_access_key"), token, None, f"{file} [{name}]")
        for key in _NEEDS_BOTOCORE:
            if key in config:
                raise MissingExtra(
                    f"The AWS profile {name} says {key}, which needs botocore.", fix="pip install 'isochrone[bedrock]'"
                )
        raise _nothing_found(
            " Roles of containers and instances, single sign-on and assumed roles need botocore, which is not "
            "installed: pip install 'isochrone[bedrock]'."
        )

    renew = find


class Fixed:
    """Keys that were written down; nothing renews them."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def find(self) -> Credentials:
        return self._credentials

    renew = find


def find_region(profile: str | None, environ: Mapping[str, str]) -> str | None:
    """The region that boto3 would take (and AWS_REGION, which every other tool of AWS's reads); None: none is set."""
    if named := environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION"):
        return named
    name = profile or environ.get("AWS_PROFILE") or environ.get("AWS_DEFAULT_PROFILE") or "default"
    return _section(shared_files(environ)[1], name if name == "default" else f"profile {name}").get("region")


def shared_files(environ: Mapping[str, str]) -> tuple[Path, Path]:
    """(credentials, configuration) as AWS's tools share them."""
    home = Path(environ.get("HOME") or os.path.expanduser("~")) / ".aws"
    credentials = environ.get("AWS_SHARED_CREDENTIALS_FILE") or home / "credentials"
    config = environ.get("AWS_CONFIG_FILE") or home / "config"
    return Path(credentials).expanduser(), Path(config).expanduser()


def _section(file: Path, name: str) -> dict[str, str]:
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read_string(file.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        raise BadConfig(f"{file} cannot be read: {error}", fix="Correct the file, or make it readable.") from error
    return dict(parser.items(name)) if parser.has_section(name) else {}


def _complete(
    access_key: str, secret_key: str | None, token: str, expires_at: float | None, source: str
) -> Credentials:
    if not secret_key:
        raise PlaceRefused(
            f"The AWS access key in {source} has no secret beside it.", fix="Set both halves of the key, or neither."
        )
    return Credentials(access_key, secret_key, token, expires_at, source)


def _unix(text: str | None) -> float | None:
    if not text:
        return None
    try:
        instant = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadConfig(
            f"AWS_CREDENTIAL_EXPIRATION is {text!r}, which is no time.", fix="Write it like 2026-11-24T12:00:00Z."
        ) from error
    return (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).timestamp()


def _nothing_found(more: str) -> IsochroneError:
    return PlaceRefused(
        f"No AWS credentials were found.{more}",
        fix="Set AWS_BEARER_TOKEN_BEDROCK, or AWS_PROFILE, or whatever makes `aws sts get-caller-identity` work.",
    )
