"""What a step costs by the tokens it verifies, relative to one token: measured as it runs.

    seconds = base · ratio[tokens]

The base moves with every step, as contexts grow and neighbours come; the ratios move slowly, and 1 token is 1 by
definition.  A count that was hardly seen lies on the line through those that were.
"""

from __future__ import annotations

NUM_TOKENS_MAX = 64
SLOPE = 0.15
"""Of one more token, before any was seen: dear enough that first guesses are good ones.  Measured on two cores with a
model of 135M parameters: 0.05 up to 4 tokens, 0.09 beyond."""
NUM_SEEN = 4
BASE_RATE, RATIO_RATE, SLOPE_RATE = 0.2, 0.1, 0.05
OFF_MAX = 1.5
"""One step says at most so many times what was expected: an interrupted step is no price."""


class VerifyCost:
    """Learns from steps in which every token has a row that draws."""

    def __init__(self) -> None:
        self.base_s, self._slope = 0.0, SLOPE
        self._ratios = [1.0] * (NUM_TOKENS_MAX + 1)
        self._num_seen = [0] * (NUM_TOKENS_MAX + 1)
        self._num_seen[1] = NUM_SEEN

    def ratio(self, num_tokens: int) -> float:
        """What a step of so many tokens takes, over a step of one."""
        if num_tokens <= NUM_TOKENS_MAX and self._num_seen[num_tokens] >= NUM_SEEN:
            return self._ratios[num_tokens]
        return 1.0 + self._slope * (num_tokens - 1)

    def learn(self, num_tokens: int, step_s: float) -> None:
        """A step was run."""
        if num_tokens > NUM_TOKENS_MAX or step_s <= 0.0:
            return
        ratio = self.ratio(num_tokens)
        if self.base_s == 0.0:
            self.base_s = step_s / ratio
        expected_s = self.base_s * ratio
        step_s = min(max(step_s, expected_s / OFF_MAX), expected_s * OFF_MAX)
        if num_tokens > 1:
            seen = step_s / self.base_s
            rate = max(RATIO_RATE, 1.0 / (1 + self._num_seen[num_tokens]))
            self._ratios[num_tokens] += rate * (seen - self._ratios[num_tokens])
            self._num_seen[num_tokens] += 1
            self._slope += SLOPE_RATE * (max(seen - 1.0, 0.0) / (num_tokens - 1) - self._slope)
        self.base_s += BASE_RATE * (step_s / self.ratio(num_tokens) - self.base_s)
