"""The place that is Google Cloud Vertex AI: Gemini's words, in a project and a location, with Google Cloud's tokens."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from isochrone.errors import BadConfig, PlaceRefused

from .gemini import Gemini, settings_of
from .gemini_settings import GeminiModel, GeminiSettings
from .spec import PlaceSpec
from .vertex_auth import GoogleAuth
from .vertex_locations import endpoint_of, expect_location, regions_of


class Vertex(Gemini):
    """A location of Vertex AI.

    project  None: the one that the credentials name
    auth     None with a key: an API key of Vertex AI (express mode) does instead
    """

    is_vertex = True

    def __init__(
        self,
        name: str,
        settings: GeminiSettings,
        *,
        location: str = "global",
        project: str | None = None,
        auth: GoogleAuth | None = None,
        key: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.location, self._project = expect_location(location), project
        self._auth = None if key else auth or GoogleAuth()
        super().__init__(name, settings, key=key, clock=clock)

    async def close(self) -> None:
        await super().close()
        if self._auth is not None:
            await self._auth.close()

    def _url(self) -> str:
        return self._settings.url or os.environ.get("GOOGLE_VERTEX_BASE_URL") or endpoint_of(self.location)

    def _regions(self) -> tuple[str, ...]:
        return regions_of(self.location)

    async def _path(self, model: GeminiModel, until: float | None) -> str:
        version = self._settings.api_version or "v1beta1"
        return f"/{version}/{self._owner()}{_resource(model.name)}"

    def _owner(self) -> str:
        if self._auth is None:
            return f"projects/{self._project}/locations/{self.location}/" if self._project else ""
        project = self._project or self._auth.project
        if not project:
            raise PlaceRefused(
                f"The credentials of {self._name} name no project of Google Cloud.",
                fix="State the project in the fleet file, or set GOOGLE_CLOUD_PROJECT.",
            )
        return f"projects/{project}/locations/{self.location}/"

    async def _headers(self, until: float | None) -> dict[str, str]:
        settings = self._settings
        headers = {"x-goog-api-key": self._key} if self._auth is None else await self._auth.headers(self._left_s(until))
        if settings.tier in ("priority", "flex"):
            headers["x-vertex-ai-llm-shared-request-type"] = settings.tier
        if settings.capacity:
            headers["x-vertex-ai-llm-request-type"] = settings.capacity
        return headers

    async def _recovers(self, refused: Mapping[str, str], until: float | None) -> bool:
        return self._auth is not None and await self._auth.recovers(refused, self._left_s(until))

    def _further(self) -> dict[str, Any]:
        return {"labels": self._settings.labels} if self._settings.labels else {}


def _resource(model: str) -> str:
    """`gemini-…` is Google's own; `publisher/model` another's; longer names stand for themselves."""
    if model.startswith(("publishers/", "endpoints/")):
        return model
    publisher, _, name = model.rpartition("/")
    return f"publishers/{publisher or 'google'}/models/{name}"


def from_spec(spec: PlaceSpec) -> Vertex:
    """The place that a fleet file describes.  Raises BadConfig, MissingExtra."""
    settings = settings_of(spec, ("project", "credentials"))
    file = spec.options.get("credentials")
    if file and spec.key_env:
        raise BadConfig(f"The place {spec.name} has both credentials and key_env.", fix="Remove one of the two.")
    key = spec.key()
    return Vertex(
        spec.name,
        settings,
        location="global" if spec.location == "local" else spec.location,
        project=spec.options.get("project") or os.environ.get("GOOGLE_CLOUD_PROJECT") or None,
        auth=GoogleAuth.from_file(Path(str(file)).expanduser()) if file else None,
        key=key,
    )
