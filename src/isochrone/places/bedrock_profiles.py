"""Where Amazon may run a model: in one region, or, for an inference profile, in any of several.

Read in stored copies of Amazon's user guide on 24 November 2026: a profile of a geography stays within that geography's
regions ("Geographic cross-Region inference"), and a global one may run in every commercial region, those that an
account has not turned on included ("Supported Regions and models for inference profiles").  Which regions each
geography holds could not be read there: the lists below are unverified.  Where in doubt the wider set stands, because a
prompt that must not leave a region is kept from what may leave it; `regions` of a model in the fleet file overrides.
"""

from __future__ import annotations

COMMERCIAL = (
    "us-east-1", "us-east-2", "us-west-1", "us-west-2", "af-south-1", "ap-east-1", "ap-east-2", "ap-northeast-1",
    "ap-northeast-2", "ap-northeast-3", "ap-south-1", "ap-south-2", "ap-southeast-1", "ap-southeast-2",
    "ap-southeast-3", "ap-southeast-4", "ap-southeast-5", "ap-southeast-6", "ap-southeast-7", "ca-central-1",
    "ca-west-1", "eu-central-1", "eu-central-2", "eu-north-1", "eu-south-1", "eu-south-2", "eu-west-1", "eu-west-2",
    "eu-west-3", "il-central-1", "me-central-1", "me-south-1", "me-west-1", "mx-central-1",
    "sa-east-1", "sa-west-1",
)  # fmt: skip
"""Every region of the partition `aws`, as botocore 1.44.8 lists them: where a `global.` profile may run."""

_PROFILES = {
    "us": ("us-east-1", "us-east-2", "us-west-1", "us-west-2"),
    "us-gov": ("us-gov-east-1", "us-gov-west-1"),
    "ca": ("ca-central-1", "ca-west-1", "us-east-1", "us-east-2", "us-west-2"),
    "eu": ("eu-central-1", "eu-north-1", "eu-south-1", "eu-south-2", "eu-west-1", "eu-west-3"),
    "jp": ("ap-northeast-1", "ap-northeast-3"),
    "au": ("ap-southeast-2", "ap-southeast-4", "ap-southeast-6"),
    "in": ("ap-south-1", "ap-south-2"),
    "apac": tuple(name for name in COMMERCIAL if name.startswith("ap-")),
    "global": COMMERCIAL,
}
UNKNOWN = ("unknown",)
"""For a geography that is younger than this table: outside every scope but `any`."""
_MAKERS = frozenset({
    "ai21", "amazon", "anthropic", "cohere", "deepseek", "google", "luma", "meta", "minimax", "mistral", "moonshot",
    "moonshotai", "nvidia", "openai", "qwen", "stability", "twelvelabs", "writer", "zai",
})  # fmt: skip
"""By whose names models' ids begin: what stands before one of them is a geography, known here or not."""
_ONE_REGION = ("foundation-model", "custom-model", "imported-model", "provisioned-model", "custom-model-deployment")


def regions_of(model: str, region: str) -> tuple[str, ...]:
    """Where Amazon may run this model when it is asked in that region; more than one for what crosses regions.

    model  a model's id, an inference profile's id, or an ARN.  What an ARN does not say (an application's own profile,
           a prompt, a prompt router) may be anywhere: every region of its partition
    """
    if model.startswith("arn:"):
        return _regions_of_arn(model, region)
    geography = _geography(model)
    if geography is None:
        return (region,)
    destinations = _PROFILES.get(geography)
    return UNKNOWN if destinations is None else _with(region, destinations)


def base_model(model: str) -> str:
    """The model behind a profile: `anthropic.claude-…` for `eu.anthropic.claude-…` and for ARNs that end so."""
    name = model.rpartition("/")[2] if model.startswith("arn:") else model
    geography = _geography(name)
    return name if geography is None else name.removeprefix(f"{geography}.")


def partition_of(region: str) -> tuple[str, str]:
    """(name of the partition, domain of its endpoints) of a region."""
    for prefix, partition, domain in (
        ("cn-", "aws-cn", "amazonaws.com.cn"),
        ("us-gov-", "aws-us-gov", "amazonaws.com"),
        ("eusc-", "aws-eusc", "amazonaws.eu"),
    ):
        if region.startswith(prefix):
            return partition, domain
    return "aws", "amazonaws.com"


def _geography(model: str) -> str | None:
    """`eu` of `eu.anthropic.…`; None for a model's own id, which begins with its maker's name."""
    head, _, rest = model.partition(".")
    maker, dot, _ = rest.partition(".")
    return head if rest and (head in _PROFILES or (dot and maker in _MAKERS)) else None


def _regions_of_arn(arn: str, region: str) -> tuple[str, ...]:
    parts = arn.split(":", 5)
    if len(parts) < 6:
        return _anywhere(region)
    asked_in = parts[3] or region
    kind, _, name = parts[5].partition("/")
    if kind in _ONE_REGION or parts[2] == "sagemaker":
        return (asked_in,)
    if kind == "inference-profile" and _geography(name) is not None:
        return regions_of(name, asked_in)
    return _anywhere(asked_in)


def _anywhere(region: str) -> tuple[str, ...]:
    partition, _ = partition_of(region)
    if partition == "aws-us-gov":
        return _with(region, _PROFILES["us-gov"])
    return _with(region, COMMERCIAL) if partition == "aws" else (region,)


def _with(region: str, destinations: tuple[str, ...]) -> tuple[str, ...]:
    """The region that is asked is always one of them: the prompt passes through it."""
    return destinations if region in destinations else (region, *destinations)
