"""How a request to Amazon proves itself: by a Bedrock API key, or by a signature with AWS credentials.

Serves the place that speaks Converse, and any place that speaks OpenAI's protocol to Bedrock's endpoint for that.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from urllib.parse import urlsplit

from isochrone.errors import BadConfig

from .bedrock_credentials import Fixed, Keyring, find_region, find_source
from .bedrock_faults import EXPIRED, name_of, skew_s
from .bedrock_profiles import partition_of
from .bedrock_sign import Credentials, sign

BEARER = "AWS_BEARER_TOKEN_BEDROCK"


class AwsAuth:
    """Headers for each request, and what to do when they are refused.

    key      a Bedrock API key; None: AWS_BEARER_TOKEN_BEDROCK where it is set, otherwise signatures
    credentials  given outright, they come before the key of the environment, as with boto3
    service  `bedrock`, or `bedrock-mantle` for the endpoint of that name
    now      Unix time, seconds
    """

    def __init__(
        self,
        region: str,
        *,
        key: str | None = None,
        credentials: Credentials | None = None,
        profile: str | None = None,
        service: str = "bedrock",
        environ: Mapping[str, str] | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        environ = os.environ if environ is None else environ
        self._region, self._service, self._now = region, service, now
        self._key = key if key or credentials else environ.get(BEARER)
        source = Fixed(credentials) if credentials else find_source(profile, environ)
        self._keyring = Keyring(source, now)
        self._skew_s = 0.0
        self._last: Credentials | None = None

    @property
    def num_renewed(self) -> int:
        """How often credentials were looked for."""
        return self._keyring.num_renewed

    async def headers(self, method: str, url: str, headers: dict[str, str], body: bytes) -> dict[str, str]:
        """What to add to a request.  url  as it goes over the wire.  Raises PlaceRefused, MissingExtra, BadConfig."""
        if self._key:
            _expect_private(url)
            return {"Authorization": f"Bearer {self._key}"}
        self._last = await self._keyring.get()
        at = self._now() + self._skew_s
        return sign(method, url, headers, body, self._last, region=self._region, at=at, service=self._service)

    async def recovers(self, error_type: str, message: str, date: str | None) -> bool:
        """Whether a request that was refused so is worth signing again: with newer credentials, or by Amazon's clock.

        date  of the refusal, as its header says
        """
        if self._key:
            return False
        if name_of(error_type) + "exception" in EXPIRED and self._last is not None:
            return await self._keyring.replace(self._last) is not None
        skew = skew_s(message, date, self._now())
        if skew is None or abs(skew - self._skew_s) < 1.0:
            return False
        self._skew_s = skew
        return True


def endpoint_of(region: str, environ: Mapping[str, str] | None = None) -> str:
    """Where Converse is served for a region, as boto3 finds it."""
    environ = os.environ if environ is None else environ
    if not environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
        for name in ("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", "AWS_ENDPOINT_URL"):
            if environ.get(name):
                return environ[name].rstrip("/")
    return f"https://bedrock-runtime.{region}.{partition_of(region)[1]}"


def openai_url_of(region: str, *, mantle: bool = False, environ: Mapping[str, str] | None = None) -> str:
    """Where Bedrock speaks OpenAI's protocol: the base address for a place of that kind, with `AwsAuth` to sign."""
    if mantle:
        return f"https://bedrock-mantle.{region}.api.aws/openai/v1"
    return f"{endpoint_of(region, environ)}/openai/v1"


def region_of(stated: str | None, profile: str | None, environ: Mapping[str, str] | None = None) -> str:
    """The region: as stated, or else as AWS's tools find it.  Raises BadConfig."""
    region = stated or find_region(profile, os.environ if environ is None else environ)
    if region is None:
        raise BadConfig("No AWS region is set.", fix="Set region in the fleet file, or AWS_REGION.")
    return region


def _expect_private(url: str) -> None:
    """A key in clear would be anybody's on the way."""
    parts = urlsplit(url)
    if parts.scheme != "https" and not _is_here(parts.hostname or ""):
        raise BadConfig(
            f"{parts.scheme}://{parts.hostname} would be sent the Bedrock API key in clear.", fix="Use https."
        )


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
