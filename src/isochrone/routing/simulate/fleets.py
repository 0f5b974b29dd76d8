"""Three fleets and what can happen to them.

Prices are of the order of public lists (US dollars a million tokens); own machines are priced at what their hire
comes to.  Speeds are of small models on an edge box and on workstations, and of a middling one on data-centre GPUs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from isochrone.places.place import Price
from isochrone.predict.blackbox import Prior
from isochrone.routing.geography import network

from .cloud import CloudSpec
from .node import NodeSpec
from .places import PlaceSpec
from .trace import Arrival

Scenario = Literal["steady", "load step", "region loss"]
SCENARIOS: tuple[Scenario, ...] = ("steady", "load step", "region loss")
SITE_RTT_S = 0.001

EDGE = NodeSpec(prompt_per_s=2500.0, itl_s=0.018, slots=4, slope=0.12, cache_blocks=400)
DESK = NodeSpec(prompt_per_s=6000.0, itl_s=0.014, slots=8, slope=0.06, cache_blocks=1000)
TOWER = NodeSpec(prompt_per_s=9000.0, itl_s=0.011, slots=12, slope=0.05, cache_blocks=1500)
GPU = NodeSpec(prompt_per_s=22000.0, itl_s=0.012, slots=32, slope=0.015, cache_blocks=4000)
SMALL_GPU = NodeSpec(prompt_per_s=12000.0, itl_s=0.016, slots=24, slope=0.02, cache_blocks=3000)
BEDROCK = CloudSpec(
    start_s=0.42, prompt_s=6e-5, itl_s=0.014, scatter=0.28, tail_share=0.02, requests_per_min=400, tokens_per_min=500e3
)
VERTEX = CloudSpec(
    start_s=0.32, prompt_s=5e-5, itl_s=0.009, scatter=0.35, tail_share=0.03, tail_factor=6.0, mood=0.3,
    requests_per_min=360, tokens_per_min=450e3,
)  # fmt: skip
ON_SITE, HIRED, CHEAP_HIRED = Price(0.01, 0.04), Price(0.12, 0.45), Price(0.08, 0.3)
BEDROCK_PRICE, VERTEX_PRICE = Price(0.8, 4.0, 0.08, 1.0), Price(0.3, 2.5, 0.03)


@dataclass(frozen=True, slots=True)
class Fleet:
    """places  cheapest first, as an operator would list them;  lost  the group that a region loss takes"""

    name: str
    places: tuple[PlaceSpec, ...]
    lost: str

    def rate(self, arrivals: Sequence[Arrival], *, own: float = 0.65, clouds: float = 0.3) -> float:
        """Requests a second that use these shares of what its own machines, and its clouds' quotas, can do."""
        prompt = sum(one.num_prompt for one in arrivals) / len(arrivals)
        answer = sum(one.num_answer for one in arrivals) / len(arrivals)
        total = 0.0
        for place in self.places:
            kind = place.kind
            if isinstance(kind, CloudSpec):
                total += clouds * min(kind.requests_per_min / 60.0, kind.tokens_per_min / 60.0 / (prompt + answer))
            else:
                full_s = kind.itl_s * (1.0 + kind.slope * (kind.slots - 1))
                total += own / (prompt / kind.prompt_per_s * 1.25 + answer * full_s / kind.slots)
        return total


def edge_fleet() -> Fleet:
    """An edge box, three machines of its site, a region's GPU, two clouds."""
    return Fleet(
        "edge",
        (
            _own("edge", "edge", 0.0005, EDGE, Price()),
            _own("desk-1", "site", SITE_RTT_S, DESK, ON_SITE),
            _own("desk-2", "site", SITE_RTT_S, DESK, ON_SITE),
            _own("tower", "site", SITE_RTT_S, TOWER, ON_SITE),
            _own("gpu", "region", _rtt_s("europe-west3", "eu-west-1"), GPU, HIRED),
            _cloud("vertex", "region", _rtt_s("europe-west3", "europe-west1"), VERTEX, VERTEX_PRICE),
            _cloud("bedrock", "abroad", _rtt_s("europe-west3", "eu-west-2"), BEDROCK, BEDROCK_PRICE),
        ),
        lost="site",
    )


def regions_fleet() -> Fleet:
    """GPUs in two regions an ocean apart, and clouds on both sides."""
    here = "eu-central-1"
    far_s = _rtt_s(here, "us-east-1")
    return Fleet(
        "two regions",
        (
            _own("us-1", "us", far_s, SMALL_GPU, CHEAP_HIRED),
            _own("us-2", "us", far_s, SMALL_GPU, CHEAP_HIRED),
            _own("eu-1", "eu", _rtt_s(here, "eu-west-1"), GPU, HIRED),
            _own("eu-2", "eu", _rtt_s(here, "eu-west-1"), SMALL_GPU, HIRED),
            _cloud("vertex-eu", "eu-cloud", _rtt_s(here, "europe-west1"), VERTEX, VERTEX_PRICE),
            _cloud("bedrock-us", "us", far_s, BEDROCK, Price(0.6, 3.0, 0.06, 0.75)),
            _cloud("bedrock-eu", "eu", _rtt_s(here, "eu-central-1"), BEDROCK, BEDROCK_PRICE),
        ),
        lost="us",
    )


def clouds_fleet() -> Fleet:
    """One small GPU of our own and six black boxes at four prices."""
    here = "eu-central-1"
    slow = CloudSpec(start_s=0.7, prompt_s=1e-4, itl_s=0.02, scatter=0.4, tail_share=0.03, mood=0.4,
                     requests_per_min=500, tokens_per_min=700e3)  # fmt: skip
    return Fleet(
        "clouds",
        (
            _own("own", "eu", _rtt_s(here, "eu-west-1"), SMALL_GPU, CHEAP_HIRED),
            _cloud("bargain", "bargain", _rtt_s(here, "us-east-2"), slow, Price(0.1, 0.4)),
            _cloud("vertex-us", "us", _rtt_s(here, "us-central1"), VERTEX, Price(0.25, 2.0, 0.025)),
            _cloud("vertex-eu", "eu", _rtt_s(here, "europe-west1"), VERTEX, VERTEX_PRICE),
            _cloud("bedrock-us", "us", _rtt_s(here, "us-east-1"), BEDROCK, Price(0.6, 3.0, 0.06, 0.75)),
            _cloud("bedrock-eu", "eu", _rtt_s(here, "eu-central-1"), BEDROCK, BEDROCK_PRICE),
            _cloud("bedrock-ie", "ie", _rtt_s(here, "eu-west-1"), BEDROCK, BEDROCK_PRICE),
        ),
        lost="eu",
    )


FLEETS = (edge_fleet, regions_fleet, clouds_fleet)


def _own(name: str, group: str, rtt_s: float, node: NodeSpec, price: Price) -> PlaceSpec:
    """A machine of ours is profiled when it starts, roughly: its prior is what it says of itself, a quarter off."""
    prior = Prior(
        start_s=node.start_s, prompt_s=1.25 / node.prompt_per_s, request_s=0.01, itl_s=1.2 * node.itl_s,
        itl_request_s=node.itl_s * node.slope, spread=0.4, slots=node.slots,
    )  # fmt: skip
    return PlaceSpec(name, group, rtt_s, node, price, prior)


def _cloud(name: str, group: str, rtt_s: float, cloud: CloudSpec, price: Price) -> PlaceSpec:
    return PlaceSpec(name, group, rtt_s, cloud, price, Prior(start_s=0.5, request_s=0.005, itl_s=0.015))


def _rtt_s(a: str, b: str) -> float:
    return network(a, b).p50_s
