"""Locations of Vertex AI: where each is asked, and where Google may run what is asked there.

`global`, `us` and `eu` name no region: their machines may be any of that area's, so a scope must be held against the
area's name and not against one region's.  Google's pages "Data residency" and "Deployments and endpoints" of Generative
AI on Vertex AI say so (stored copies, read 24 November 2026): processing stays in the region or multi-region that is
asked, and for `global` nobody can know where.  The host names are those that google-genai 3.6.1 builds.
"""

from __future__ import annotations

import re

from isochrone.errors import BadConfig

MULTI_REGIONS = ("us", "eu")
_REGION = re.compile(r"[a-z]+-[a-z]+\d+")


def endpoint_of(location: str) -> str:
    """The address at which a location is asked."""
    if location == "global":
        return "https://aiplatform.googleapis.com"
    if location in MULTI_REGIONS:
        return f"https://aiplatform.{location}.rep.googleapis.com"
    return f"https://{location}-aiplatform.googleapis.com"


def regions_of(location: str) -> tuple[str, ...]:
    """Where Google may run it: the name of an area for what crosses regions, else that region alone."""
    return (location,)


def expect_location(location: str) -> str:
    """Raises BadConfig for what is no location of Google's."""
    if location == "global" or location in MULTI_REGIONS or _REGION.fullmatch(location):
        return location
    raise BadConfig(
        f"{location!r} is no location of Google Cloud.", fix="Write a region (europe-west4), us, eu or global."
    )
