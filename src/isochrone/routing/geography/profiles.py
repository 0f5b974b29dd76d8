"""Ids under which a provider may run a request in more than one region, and the areas they stand for."""

from __future__ import annotations

from isochrone.places import bedrock_profiles

from .regions import AREAS

UNKNOWN = ("unknown",)
"""Regions of what says nothing of where it runs: outside every scope but `any`."""
_VENDORS = frozenset(("amazon", "anthropic", "cohere", "deepseek", "meta", "mistral", "openai", "qwen", "writer"))


def regions_of(kind: str, upstream: str, location: str) -> tuple[str, ...]:
    """Where a model of that place may run, as far as its id and the place's location say; empty: at its location."""
    if kind == "bedrock":
        return _of_bedrock(upstream, location)
    if kind == "vertex":
        return (location,) if location in AREAS else ()
    if kind == "gemini":
        return ("global",)  # its terms name no region
    return ()


def _of_bedrock(upstream: str, location: str) -> tuple[str, ...]:
    """`eu.anthropic.…` is a profile that runs in any of a list of regions, and so is an application's own."""
    prefix, *rest = upstream.split(".")
    found = bedrock_profiles.regions_of(upstream, location)
    if found == (location,):
        is_profile_of_tomorrow = prefix not in _VENDORS and bool(rest) and rest[0] in _VENDORS
        return UNKNOWN if is_profile_of_tomorrow else ()
    return found
