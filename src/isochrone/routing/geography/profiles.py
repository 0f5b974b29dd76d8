"""Ids under which a provider may run a request in more than one region, and the areas they stand for."""

from __future__ import annotations

from .regions import AREAS

UNKNOWN = ("unknown",)
"""Regions of what says nothing of where it runs: outside every scope but `any`."""
VENDORS = frozenset(
    "ai21 amazon anthropic cohere deepseek google luma meta minimax mistral moonshot moonshotai nvidia openai poolside "
    "qwen stability twelvelabs writer xai zai".split()
)


def regions_of(kind: str, upstream: str, location: str) -> tuple[str, ...]:
    """Where a model of that place may run, as far as its id and the place's location say; empty: at its location."""
    if kind == "bedrock":
        return _of_bedrock(upstream)
    if kind == "vertex":
        return (location,) if location in AREAS else ()
    if kind == "gemini":
        return ("global",)  # its terms name no region
    return ()


def _of_bedrock(upstream: str) -> tuple[str, ...]:
    """`eu.anthropic.…` is a profile that runs anywhere in the EU, `global.…` one that runs anywhere.

    A profile of the customer's own may hold any regions, and only its account knows which.
    """
    name = upstream
    if upstream.startswith("arn:"):
        kind, _, name = upstream.split(":", 5)[-1].partition("/")
        if kind not in ("foundation-model", "inference-profile"):
            return UNKNOWN
    prefix, *rest = name.split(".")
    if prefix in VENDORS or not rest:
        return ()
    return (prefix,) if prefix in AREAS else UNKNOWN
