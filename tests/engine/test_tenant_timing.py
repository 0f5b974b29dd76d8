"""What a tenant can learn from its own waiting: what it asked before, and nothing of what another did.

Time is what the steps cost on a simulated clock, so the machine decides nothing.  Each world is lived through twice,
with the same neighbours: once the victim has asked the secret, once something else as long.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest

from isochrone.engine.records import SamplingParams, Submit, Timing

from .driver import run

NUM_WORLDS = 40
PROBE = 1
Facts = dict[str, float]


def auc(with_secret: Sequence[float], without: Sequence[float]) -> float:
    """How often a value of the first kind is below one of the second, ties by half: 0.5 tells nothing, 1 all.

    Whoever probes may read it either way round.
    """
    below = sum((one < other) + 0.5 * (one == other) for one in with_secret for other in without)
    share = below / (len(with_secret) * len(without))
    return max(share, 1 - share)


def probe(make_engine: Callable[..., object], seed: int, *, as_tenant: str, was_asked: bool, **facts: int) -> Facts:
    """All that the prober sees of its own request, after the victim was answered and beside neighbours."""
    dice = random.Random(seed)
    engine = make_engine(num_tokens_max=32, **facts)
    secret, decoy = ([dice.randrange(1, 97) for _ in range(64)] for _ in range(2))

    def ask(id: int, tenant: str, prompt: list[int], num_tokens: int) -> Submit:
        sampling = SamplingParams(temperature=0, ignore_eos=True)
        return Submit(id=id, tenant=tenant, prompt_ids=prompt, sampling=sampling, max_tokens=num_tokens)

    def noise(first_id: int) -> list[Submit]:
        sizes = [dice.randrange(1, 25) for _ in range(dice.randrange(3))]
        return [ask(first_id + i, "c", [dice.randrange(1, 97)] * size, 6) for i, size in enumerate(sizes)]

    run(engine, [ask(100, "victim", secret if was_asked else decoy, 20), *noise(200)])
    answer = run(engine, [*noise(300), ask(PROBE, as_tenant, secret, 20)])[PROBE, 0]
    timing = answer.timing
    assert isinstance(timing, Timing) and len(answer.token_ids) == 20
    return {
        "ttft": timing.first_token_at - timing.admitted_at,
        "total": timing.finished_at - timing.admitted_at,
        "cached": -timing.num_cached,
        "accepted": -timing.num_accepted,
    }


def tell(make_engine: Callable[..., object], as_tenant: str, **facts: int) -> Facts:
    """How well each fact tells whether the secret was asked before."""
    asked, other = (
        [probe(make_engine, seed, as_tenant=as_tenant, was_asked=was, **facts) for seed in range(NUM_WORLDS)]
        for was in (True, False)
    )
    return {name: auc([one[name] for one in asked], [one[name] for one in other]) for name in asked[0]}


@pytest.mark.parametrize("num_pages", [64, 14], ids=["room for all", "cache under pressure"])
def test_no_time_and_no_count_tells_a_tenant_what_another_asked(make_engine, num_pages):
    told = tell(make_engine, "prober", num_pages=num_pages)
    assert max(told.values()) <= 0.55, told


def test_within_a_tenant_the_same_probe_tells_everything(make_engine):
    told = tell(make_engine, "victim", num_pages=64)
    assert min(told["ttft"], told["total"], told["cached"]) >= 0.95, told
