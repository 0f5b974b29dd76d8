"""What each target would take, as far as can be known now: learned from outcomes, asked before every choice.

`Outlook` is the one thing here that changes: it observes outcomes.  A `Forecast` is what it says about one request
and its candidates: plain numbers, read by the choice, by the execution (how long may the first token still take?) and
by `explain`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isochrone.predict import blackbox
from isochrone.predict.blackbox import BlackBox, Load, Prior, chance, chance_of_one
from isochrone.predict.calibration import Coverage
from isochrone.predict.lengths import Lengths

from .records import Ask, Candidate, Outcome, Quantiles, Target

Array = NDArray[np.float64]
Rows = NDArray[np.intp]

FEW = 6
"""Candidates up to which plain numbers are quicker than arrays."""
MISSED_BELOW = 0.95
"""A request whose best place is less likely than this to keep the budget misses the places that are busy."""
SHORT_OF_QUOTA = 0.03
"""Share of a quota below which a refusal becomes likely: its end is not known to the token."""
SCARCITY_RATE, SCARCITY_FADES, SCARCITY_MAX = 0.4, 0.02, 1.0
"""How fast the price of a scarce place rises for each probability that is missed, and falls with each request."""

FAILED = ("failed", "stalled")
"""Kinds of outcome that speak against a target.  A refusal (quota, overload) does too, but briefly: the breaker's
matter."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """One request, all its candidates; index i is that of `candidates` as they were handed in.  Plain numbers all:
    most fleets have few places, and their choice touches no array.

    p              probability that every stated part of the budget is kept, and that it does not fail
    ttft_s, itl_s  medians;  knots: log ratios to the median at 10, 50, 90 and 99 %, [candidates][3 kinds][4]
    lengths        equally likely lengths of the answer, tokens
    failing        share of requests that fail there
    cost_usd       expected, at the expected length
    empty_s        median to the first token if nothing else ran there: how fast the place is made
    trust          outcomes learned from, and what the prior counts as
    scarcity       how sorely the place was missed lately by requests that it would have served in time when free,
                   0 for one that nobody missed
    """

    targets: tuple[Target, ...]
    p: list[float]
    ttft_s: list[float]
    itl_s: list[float]
    knots: list[list[list[float]]]
    lengths: list[float]
    failing: list[float]
    cost_usd: list[float]
    empty_s: list[float]
    trust: list[float]
    scarcity: list[float]

    def index(self, target: Target) -> int:
        """Where a target stands among the candidates."""
        return self.targets.index(target)

    def p_within(self, i: int) -> float:
        """Probability that the candidate keeps the whole budget that the ask stated."""
        return self.p[i]

    def p_first_by(self, i: int, within_s: float, silent_s: float = 0.0) -> float:
        """Probability that its first token comes within so many seconds of sending, given `silent_s` of silence."""
        if within_s <= silent_s:
            return 0.0
        median_s, knots = self.ttft_s[i], self.knots[i][blackbox.TTFT]
        works = 1.0 - self.failing[i]
        by = chance_of_one(math.log(within_s / median_s), knots)
        if silent_s <= 0.0:
            return works * by
        before = chance_of_one(math.log(silent_s / median_s), knots)
        left = 1.0 - works * before  # still silent: slow, or failing
        return works * (by - before) / left if left > 1e-9 else 0.0

    def first_by_s(self, i: int, p: float) -> float:
        """Seconds within which its first token comes with probability p (0.5 to 0.99): an adaptive timeout."""
        return self.ttft_s[i] * math.exp(_knot_at(self.knots[i][blackbox.TTFT], p))

    def total_by_s(self, i: int, p: float) -> float:
        """The same of its last token, at the longest length that is likely."""
        whole_s = self.ttft_s[i] + self.itl_s[i] * self.lengths[-1]
        return whole_s * math.exp(_knot_at(self.knots[i][blackbox.TOTAL], p))

    def ttft(self, i: int) -> Quantiles:
        """Its time to first token, network included."""
        median_s, knots = self.ttft_s[i], self.knots[i][blackbox.TTFT]
        return Quantiles(median_s * math.exp(knots[1]), median_s * math.exp(knots[2]), median_s * math.exp(knots[3]))

    def total(self, i: int) -> Quantiles:
        """Its time to the last token: what is unknown of the length and of the pace together.

        On the logarithmic scale, scatter from the length and from the pace add as if independent.
        """
        _, middle, long, longest = _length_quantiles(self.lengths)
        ttft_s, itl_s, knots = self.ttft_s[i], self.itl_s[i], self.knots[i][blackbox.TOTAL]
        p50_s = ttft_s + itl_s * middle
        least_s = p50_s * math.exp(knots[1])
        by_long, by_longest = (math.log((ttft_s + itl_s * length) / p50_s) for length in (long, longest))
        return Quantiles(
            least_s,
            least_s * math.exp(math.hypot(by_long, knots[2] - knots[1])),
            least_s * math.exp(math.hypot(by_longest, knots[3] - knots[1])),
        )


class Outlook:
    """What has been learned of all targets; one for a gateway.

    priors  what is believed of a target before it is known; `expect` adds to it while running
    """

    def __init__(self, priors: Mapping[Target, Prior] | None = None) -> None:
        self._priors: dict[Target, Prior] = dict(priors or {})
        self._box = BlackBox()
        self._rows: dict[Target, int] = {}
        self._network_s: dict[int, float] = {}
        self.lengths = Lengths()
        self.ttft_coverage = Coverage()
        self.total_coverage = Coverage()
        self._scarcity: Array = np.zeros(0)
        self._now = 0.0

    def expect(self, target: Target, prior: Prior) -> None:
        """Say what is known of a target before it is used (a profile of our own engine, say)."""
        self._priors[target] = prior
        row = self._rows.get(target)
        if row is not None and not self._box.num_seen[row]:
            self._box.reset(row, prior)

    def num_seen(self, target: Target) -> int:
        """Answers that were learned from: `Candidate.num_seen`."""
        row = self._rows.get(target)
        return 0 if row is None else int(self._box.num_seen[row])

    def see(self, ask: Ask, candidates: Sequence[Candidate], *, now: float | None = None) -> Forecast:
        """What each candidate would take for this request.

        now  monotonic; None: as of the latest outcome.  What was learned of a target fades while it is not used
        """
        now = self._now if now is None else now
        if len(candidates) <= FEW:
            return self._see_few(ask, candidates, now)
        return self._see_many(ask, candidates, now)

    def _see_many(self, ask: Ask, candidates: Sequence[Candidate], now: float) -> Forecast:
        """All candidates at once, in arrays."""
        rows = np.array([self._row(one) for one in candidates], dtype=np.intp)
        facts = np.array(
            [
                (
                    ask.num_prompt - one.num_cached, one.silent_prompt, one.num_in_flight,
                    0 if one.num_waiting is None else max(0, one.num_waiting - one.num_silent), one.oldest_silent_s,
                    one.network.p50_s,
                    one.price.prompt_usd_per_million, one.price.completion_usd_per_million, one.num_cached,
                    one.price.cached_prompt_usd_per_million or 0.0, one.headroom,
                )
                for one in candidates
            ],
            dtype=np.float64,
        ).reshape(len(candidates), 11).T  # fmt: skip
        ttft, itl = self._box.medians(rows, facts[:5], now)
        ttft += facts[5]
        knots = self._box.scatter(rows, facts)
        failing = self._box.failures(rows, now)
        lengths = self.lengths.points(ask.route, num_max=ask.num_answer_max)
        cost = (facts[0] * facts[6] + facts[8] * facts[9] + lengths.mean() * facts[7]) * 1e-6
        p = (1.0 - failing) * np.minimum(facts[10] * (1.0 / SHORT_OF_QUOTA), 1.0)
        p *= _within(ask, ttft, itl, knots, lengths)
        targets = tuple([one.target for one in candidates])
        empty = self._box.empty(rows, facts[0]) + facts[5]
        trust = self._box.num_seen[rows] + self._box.trust[rows]
        self._note_scarcity(ask, rows, p, empty)
        numbers = [array.tolist() for array in (failing, cost, empty, trust, self._scarcity[rows])]
        return Forecast(targets, p.tolist(), ttft.tolist(), itl.tolist(), knots.tolist(), lengths.tolist(), *numbers)

    def _see_few(self, ask: Ask, candidates: Sequence[Candidate], now: float) -> Forecast:
        """The same one by one, in plain numbers: for a handful, arrays take longer than what is in them."""
        box, lengths = self._box, self.lengths.plain_points(ask.route, num_max=ask.num_answer_max)
        mean = sum(lengths) / len(lengths)
        seen = Forecast(tuple([one.target for one in candidates]), [], [], [], [], lengths, [], [], [], [], [])
        rows = [self._row(one) for one in candidates]
        for one, row in zip(candidates, rows, strict=True):
            price, network_s, num_prompt = one.price, one.network.p50_s, ask.num_prompt - one.num_cached
            num_others = 0 if one.num_waiting is None else max(0, one.num_waiting - one.num_silent)
            load = Load(num_prompt, one.silent_prompt, one.num_in_flight, num_others, one.oldest_silent_s)
            ttft_s, itl_s = box.median(row, load, now)
            ttft_s += network_s
            knots, failing = box.knots_of(row, load), box.failure(row, now)
            p = (1.0 - failing) * min(one.headroom * (1.0 / SHORT_OF_QUOTA), 1.0)
            cost = num_prompt * price.prompt_usd_per_million + mean * price.completion_usd_per_million
            cost += one.num_cached * (price.cached_prompt_usd_per_million or 0.0)
            seen.p.append(p * _within_one(ask, ttft_s, itl_s, knots, lengths))
            seen.ttft_s.append(ttft_s)
            seen.itl_s.append(itl_s)
            seen.knots.append(knots)
            seen.failing.append(failing)
            seen.cost_usd.append(cost * 1e-6)
            seen.empty_s.append(box.empty_of(row, num_prompt) + network_s)
            seen.trust.append(box.trust_of(row))
        seen.scarcity.extend(self._note_scarcity_of_few(ask, rows, seen.p, seen.empty_s))
        return seen

    def _note_scarcity_of_few(
        self, ask: Ask, rows: Sequence[int], p: Sequence[float], empty: Sequence[float]
    ) -> Iterator[float]:
        """`_note_scarcity` in plain numbers; gives what it came to."""
        self._make_room()
        best = max(p, default=1.0)
        for row, chance_now, empty_s in zip(rows, p, empty, strict=True):
            level = float(self._scarcity[row]) * (1.0 - SCARCITY_FADES)
            if best < MISSED_BELOW and ask.ttft_s is not None:
                knots = self._box.knots[row, 0, blackbox.TTFT].tolist()
                when_free = chance_of_one(math.log(max(ask.ttft_s, 1e-6)) - math.log(empty_s), knots)
                if when_free >= MISSED_BELOW and when_free > chance_now:
                    level = level + SCARCITY_RATE * (MISSED_BELOW - best)
                level = min(level, SCARCITY_MAX)
            self._scarcity[row] = level
            yield level

    def _make_room(self) -> None:
        if len(self._scarcity) < self._box.size:
            self._scarcity = np.append(self._scarcity, np.zeros(len(self._box.num_seen) - len(self._scarcity)))

    def _note_scarcity(self, ask: Ask, rows: Rows, p: Array, empty: Array) -> None:
        """Who would have made it on a place that is busy now, shows what keeping that place free is worth.

        A step of dual ascent: the price of a place rises with what is missed there and falls when nothing is.
        """
        self._make_room()
        self._scarcity[rows] *= 1.0 - SCARCITY_FADES
        best = float(p.max()) if len(p) else 1.0
        if best >= MISSED_BELOW or ask.ttft_s is None:
            return
        knots = self._box.knots[rows, 0, blackbox.TTFT]
        when_free = chance(math.log(max(ask.ttft_s, 1e-6)) - np.log(empty), knots)
        missed = (when_free >= MISSED_BELOW) & (when_free > p)
        raised = self._scarcity[rows] + SCARCITY_RATE * (MISSED_BELOW - best) * missed
        self._scarcity[rows] = np.minimum(raised, SCARCITY_MAX)

    def observe(self, outcome: Outcome) -> None:
        """Learn from what one attempt came to."""
        row = self._row_of(outcome.target)
        now = self._now = max(self._now, outcome.ended_at)
        load = Load(
            max(0, outcome.num_prompt - outcome.num_cached), outcome.silent_prompt, outcome.in_flight,
            outcome.num_others, outcome.oldest_silent_s,
        )  # fmt: skip
        if outcome.kind in ("answered", *FAILED):
            self._box.saw_end(row, failed=outcome.kind in FAILED, now=now)
        if outcome.first_at is not None:
            self._learn_times(row, outcome, load, now)
        elif outcome.kind in ("cancelled", "hedged_out", "stalled"):
            silent_s = outcome.ended_at - outcome.sent_at
            self._box.saw_silence(row, load, network_s=outcome.network_s, silent_s=silent_s, now=now)
        if outcome.kind == "answered":
            self.lengths.observe(outcome.route, outcome.num_answer)

    def _learn_times(self, row: int, outcome: Outcome, load: Load, now: float) -> None:
        assert outcome.first_at is not None  # the caller looked
        box, actual_s = self._box, outcome.first_at - outcome.sent_at
        alone_s, itl_s = box.median(row, load, now)
        ttft_s = alone_s + outcome.network_s
        busy = int(box.is_busy(row, load))
        knots = box.knots[row, busy].tolist()
        self.ttft_coverage.observe([ttft_s * math.exp(knot) for knot in knots[blackbox.TTFT]], actual_s)
        box.saw_ttft(row, load, network_s=outcome.network_s, actual_s=actual_s, now=now, stated_s=alone_s)
        if outcome.kind != "answered" or outcome.num_answer < 2:
            return
        total_s = outcome.ended_at - outcome.sent_at
        stated_s = ttft_s + itl_s * (outcome.num_answer - 1)
        self.total_coverage.observe([stated_s * math.exp(knot) for knot in knots[blackbox.TOTAL]], total_s)
        if outcome.num_answer >= 4:  # two tokens say how a network bunches, not how a model paces
            between_s = (outcome.ended_at - outcome.first_at) / (outcome.num_answer - 1)
            box.saw_itl(row, load, actual_s=between_s, now=now)
        box.saw_total(row, load, stated_s=stated_s, actual_s=total_s)

    def _row(self, one: Candidate) -> int:
        row = self._rows.get((one.place, one.model))
        return self._row_of((one.place, one.model)) if row is None else row

    def _row_of(self, target: Target) -> int:
        row = self._rows.get(target)
        if row is None:
            row = self._rows[target] = self._box.add(self._priors.get(target, blackbox.CAUTIOUS))
        return row


def _within(ask: Ask, ttft: Array, itl: Array, knots: Array, lengths: Array) -> Array:
    """Probability that all stated times are kept.  They rise and fall together (load), so the least one decides."""
    kinds: list[int] = []
    times = np.empty((len(ttft), 2 + len(lengths)))
    if ask.ttft_s is not None:
        times[:, len(kinds)] = ttft * (1.0 / max(ask.ttft_s, 1e-6))
        kinds.append(blackbox.TTFT)
    if ask.itl_s is not None:
        times[:, len(kinds)] = itl * (1.0 / max(ask.itl_s, 1e-6))
        kinds.append(blackbox.ITL)
    num_single = len(kinds)
    if ask.total_s is not None:
        totals = times[:, num_single : num_single + len(lengths)]
        np.multiply(itl[:, None], lengths, out=totals)
        totals += ttft[:, None]
        totals *= 1.0 / max(ask.total_s, 1e-6)
        kinds += [blackbox.TOTAL] * len(lengths)
    if not kinds:
        return np.ones(len(ttft))
    chances = chance(-np.log(times[:, : len(kinds)]), knots[:, kinds])
    if ask.total_s is None:
        return np.asarray(chances.min(1))
    whole = chances[:, num_single:].mean(1)
    return np.asarray(np.minimum(chances[:, :num_single].min(1), whole)) if num_single else np.asarray(whole)


def _within_one(
    ask: Ask, ttft_s: float, itl_s: float, knots: Sequence[Sequence[float]], lengths: Sequence[float]
) -> float:
    """`_within` of one candidate, in plain numbers."""
    least = 1.0
    if ask.ttft_s is not None:
        least = chance_of_one(-math.log(ttft_s * (1.0 / max(ask.ttft_s, 1e-6))), knots[blackbox.TTFT])
    if ask.itl_s is not None:
        by_itl = chance_of_one(-math.log(itl_s * (1.0 / max(ask.itl_s, 1e-6))), knots[blackbox.ITL])
        least = min(least, by_itl)
    if ask.total_s is None:
        return least
    per_s, of_total = 1.0 / max(ask.total_s, 1e-6), knots[blackbox.TOTAL]
    whole = sum([chance_of_one(-math.log((itl_s * length + ttft_s) * per_s), of_total) for length in lengths])
    return min(least, whole / len(lengths))


def _length_quantiles(points: Sequence[float]) -> tuple[float, float, float, float]:
    """At 10, 50, 90 and 99 %: of equally likely points, by the last ones' ratio beyond them."""
    longest = points[-1] * points[-1] / max(points[-2], 1.0)
    return points[0], 0.5 * (points[3] + points[4]), 0.3 * points[-2] + 0.7 * points[-1], max(points[-1], longest)


def _knot_at(knots: Sequence[float], p: float) -> float:
    if p <= 0.9:
        return knots[1] + (knots[2] - knots[1]) * max(0.0, (p - 0.5) / 0.4)
    return knots[2] + (knots[3] - knots[2]) * min(1.0, (p - 0.9) / 0.09)
