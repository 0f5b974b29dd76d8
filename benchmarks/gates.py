"""What the comparison with the peers must show, as data, and the verdict as a pure function of the figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from isochrone.predict.shape import ModelShape

PREFILL_512, PREFILL_2048, DECODE_0, DECODE_2000, BATCH_16 = (
    "prefill 512", "prefill 2048", "decode, depth 0", "decode, depth 2000", "batch 16",
)  # fmt: skip
METRICS = (PREFILL_512, PREFILL_2048, DECODE_0, DECODE_2000, BATCH_16)
LLAMA, OPENVINO, OURS = "llama.cpp", "OpenVINO GenAI", "Isochrone"
NUM_BATCH = 16
DEPTH = 2000


@dataclass(frozen=True, slots=True)
class Gate:
    """What one figure must reach; None asks nothing.

    llama, openvino   at least this many times the peer's figure
    share             at least this share of the machine's limit
    is_either         llama *or* share suffices; otherwise all that is stated must hold
    """

    llama: float | None = None
    openvino: float | None = None
    share: float | None = None
    is_either: bool = False

    def __str__(self) -> str:
        peers = [f">= {x:g}x {name}" for x, name in ((self.llama, LLAMA), (self.openvino, OPENVINO)) if x is not None]
        share = [f">= {self.share:.0%} of limit"] if self.share is not None else []
        return (" or " if self.is_either else " and ").join(peers + share) or "stated"


STATED = Gate()
GATES: dict[str, dict[str, Gate]] = {
    "smollm2-135m": {
        PREFILL_512: Gate(llama=5.0, openvino=1.1),
        PREFILL_2048: Gate(llama=4.0),
        DECODE_0: Gate(llama=2.0, share=0.85, is_either=True),
        DECODE_2000: Gate(llama=2.5, share=0.78, is_either=True),
        BATCH_16: Gate(llama=3.5, openvino=1.2),
    },
    "qwen3-0.6b-q4_0": {
        PREFILL_512: Gate(llama=2.5, openvino=1.2),
        PREFILL_2048: STATED,
        DECODE_0: Gate(llama=1.3, share=0.85, is_either=True),
        DECODE_2000: Gate(llama=2.5, share=0.78, is_either=True),
        BATCH_16: Gate(llama=2.5, openvino=1.2),
    },
    "llama-3.2-1b-q8_0": {
        PREFILL_512: Gate(llama=2.0),
        PREFILL_2048: STATED,
        DECODE_0: Gate(llama=0.97, share=0.85),
        DECODE_2000: Gate(share=0.80),
        BATCH_16: Gate(llama=1.6),
    },
}
SHARES_ALONE: dict[str, Gate] = {
    PREFILL_512: Gate(share=0.55),
    PREFILL_2048: STATED,
    DECODE_0: Gate(share=0.80),
    DECODE_2000: STATED,
    BATCH_16: STATED,
}
"""For a weaker instruction set forced on a better machine, where the peers use all of it."""

SHAPES = {
    "smollm2-135m": ModelShape(576, 1536, 30, 9, 3, 64, vocab=49152, context=8192, is_tied=True),
    "qwen3-0.6b-q4_0": ModelShape(
        1024, 3072, 28, 16, 8, 128, vocab=151936, context=40960, is_tied=True, has_qk_norm=True
    ),
    "llama-3.2-1b-q8_0": ModelShape(2048, 8192, 16, 32, 8, 64, vocab=128256, context=131072, is_tied=True),
}


@dataclass(frozen=True, slots=True)
class Limits:
    """The machine's limits in this very run, with the threads of the comparison.

    read_bytes_per_s  a plain read of our packed weights
    int8_per_s        the int8 peak of the instruction set in use
    """

    read_bytes_per_s: float
    int8_per_s: float


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.  tokens_per_s and share by engine; verdict None where nothing is asked."""

    metric: str
    tokens_per_s: Mapping[str, float]
    share: Mapping[str, float]
    gate: Gate
    verdict: bool | None

    def ratio(self, peer: str) -> float | None:
        """Ours over a peer's; None where the peer was not measured."""
        theirs = self.tokens_per_s.get(peer)
        return self.tokens_per_s[OURS] / theirs if theirs else None


def share_of_limit(
    metric: str, tokens_per_s: float, shape: ModelShape, weight_bytes: float, kv_item_bytes: float, limits: Limits
) -> float:
    """How much of what memory and the int8 unit allow was reached, 0 to 1.

    Prefill counts the layers' products alone (the head runs for one position), attention not at all.
    """
    body = 2.0 * shape.num_layers * shape.num_layer_weights
    kv = 2.0 * shape.num_layers * shape.num_kv_heads * shape.head_dim * kv_item_bytes
    match metric:
        case "prefill 512" | "prefill 2048":
            return tokens_per_s * body / limits.int8_per_s
        case "decode, depth 0":
            return tokens_per_s * weight_bytes / limits.read_bytes_per_s
        case "decode, depth 2000":
            return tokens_per_s * (weight_bytes + DEPTH * kv) / limits.read_bytes_per_s
    head = 2.0 * shape.vocab * shape.hidden
    step_s = max(weight_bytes / limits.read_bytes_per_s, NUM_BATCH * (body + head) / limits.int8_per_s)
    return tokens_per_s / NUM_BATCH * step_s


def judge(gate: Gate, tokens_per_s: Mapping[str, float], share: float) -> bool | None:
    """Whether a figure reaches its gate.  A peer that is asked for and was not measured is a miss."""
    claims: list[bool] = []
    for times, peer in ((gate.llama, LLAMA), (gate.openvino, OPENVINO)):
        if times is not None:
            claims.append(peer in tokens_per_s and tokens_per_s[OURS] >= times * tokens_per_s[peer])
    if gate.share is not None:
        claims.append(share >= gate.share)
    if not claims:
        return None
    return any(claims) if gate.is_either else all(claims)
