"""The place that is Amazon Bedrock where it speaks OpenAI's protocol: asked as any such server, signed as Converse is.

A fleet file says so by `api = "openai"` among the options of a place of kind bedrock.
"""

from __future__ import annotations

from isochrone.errors import BadConfig

from .bedrock_auth import AwsAuth, openai_url_of, region_of
from .offers import expect_options
from .openai_place import OpenAIPlace
from .place import Price
from .spec import PlaceSpec


def is_meant(spec: PlaceSpec) -> bool:
    """The operator wants this face of Bedrock, and not Converse."""
    return bool(spec.options.get("api", "converse") != "converse")


def place_of(spec: PlaceSpec) -> OpenAIPlace:
    """The place that a fleet file describes.

    url      of the API, with its version; empty: the region's own
    options  `region`, `profile`, and `mantle` for the endpoint of that name
    Raises BadConfig, MissingExtra.
    """
    options = expect_options(spec, {"api": (str,), "region": (str,), "profile": (str,), "mantle": (bool,)})
    if options["api"] != "openai":
        raise BadConfig(f"The place {spec.name} has api = {options['api']!r}.", fix="Write converse or openai.")
    if not spec.models:
        raise BadConfig(
            f"The place {spec.name} names no models of the hundreds there.",
            fix='Add models = ["openai.gpt-oss-20b-1:0"].',
        )
    profile, mantle = options.get("profile"), bool(options.get("mantle", False))
    stated = options.get("region") or (None if spec.location in ("local", "site", "") else spec.location)
    region = region_of(stated, profile)
    service = "bedrock-mantle" if mantle else "bedrock"
    return OpenAIPlace(
        spec.name,
        spec.url or openai_url_of(region, mantle=mantle),
        location=region,
        price=spec.price or Price(),
        models=spec.models,
        flavour="bedrock",
        signer=AwsAuth(region, key=spec.key() or None, profile=profile, service=service),
    )
