"""What a model is, apart from its weights: one record for every family and every kind of checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..errors import BadModel
from ..graph.activations import Activation

FamilyName = Literal["llama", "mistral", "smollm3", "qwen2", "qwen3"]
Scaling = Literal["none", "linear", "dynamic", "llama3", "yarn", "longrope", "factors"]

SCALINGS: dict[str, Scaling] = {
    "linear": "linear", "dynamic": "dynamic", "llama3": "llama3", "yarn": "yarn",
    "longrope": "longrope", "su": "longrope",
}  # fmt: skip
"""Scalings by the `rope_type` of config.json; su is longrope's first name."""


_ROPE_SCALES = (
    "factor", "low_freq", "high_freq", "beta_fast", "beta_slow", "attention_factor", "mscale", "mscale_all",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class RopeConfig:
    """Rotary embedding: base and how it is stretched beyond the training context.

    scaling             factors: the checkpoint itself carries divisors of the frequencies (GGUF's rope_freqs)
    factor              how many times the context is stretched
    original_context    positions seen in training before stretching
    low_freq, high_freq llama3: wavelengths longer than original_context / low_freq are stretched in full
    beta_fast, _slow    yarn: rotations between which the stretch ramps
    attention_factor    multiplies cos and sin; None: what the scaling's paper says
    mscale, mscale_all  yarn: the two terms of the attention factor that some checkpoints give instead
    short, long         longrope: divisors per frequency, below and above original_context
    truncate            yarn: the ramp's ends are rounded to whole dimensions
    """

    theta: float = 10000.0
    scaling: Scaling = "none"
    factor: float = 1.0
    original_context: int = 0
    low_freq: float = 1.0
    high_freq: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None
    mscale: float | None = None
    mscale_all: float | None = None
    short: tuple[float, ...] = ()
    long: tuple[float, ...] = ()
    truncate: bool = True

    def __post_init__(self) -> None:
        for name in _ROPE_SCALES:
            value = getattr(self, name)
            if value is not None and not 1e-6 <= value <= 1e6:
                raise BadModel(f"The model's rope has {name} {value}.", fix=FIX)
        if not 1 < self.theta < 1e12:
            raise BadModel(f"The model's rope has theta {self.theta}.", fix=FIX)
        if self.scaling in ("llama3", "yarn", "longrope") and self.original_context < 2:
            raise BadModel(f"The model's rope stretches a context of {self.original_context}.", fix=FIX)
        if not (self.low_freq < self.high_freq and self.beta_slow < self.beta_fast):
            raise BadModel(
                f"The model's rope mixes from {self.low_freq} to {self.high_freq}, "
                f"or ramps from {self.beta_slow} to {self.beta_fast}.",
                fix=FIX,
            )


@dataclass(frozen=True, slots=True)
class Choices:
    """How the layers of one model differ from the plain decoder.

    windows      per layer: positions a token sees, None for all
    rope_layers  per layer: whether queries and keys are turned
    qkv_bias, output_bias, mlp_bias   which projections add a bias
    """

    windows: tuple[int | None, ...]
    rope_layers: tuple[bool, ...]
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Sizes and choices of one decoder-only model.

    context      positions it was made for
    choices      how its layers differ from the plain decoder
    is_tied      the head is the embedding table
    has_qk_norm  every query and key head is normalised
    is_permuted  the stored rows of q and k stand in pairs for interleaved RoPE (see `row_orders`)
    """

    family: FamilyName
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    rms_eps: float
    context: int
    rope: RopeConfig
    choices: Choices
    is_tied: bool
    has_qk_norm: bool = False
    is_permuted: bool = False
    act: Activation = "silu"

    def __post_init__(self) -> None:
        sizes = (
            "vocab_size",
            "hidden_size",
            "intermediate_size",
            "num_layers",
            "num_heads",
            "num_kv_heads",
            "head_dim",
        )
        for name in (*sizes, "context"):
            value = getattr(self, name)
            if not 1 <= value <= LIMITS.get(name, 1 << 20):
                raise BadModel(f"The model says {name} is {value}.", fix=FIX)
        if self.num_heads % self.num_kv_heads:
            raise BadModel(f"{self.num_heads} heads cannot share {self.num_kv_heads} KV heads.", fix=FIX)
        if self.head_dim % 2:
            raise BadModel(f"The model says head_dim is {self.head_dim}, which rotary pairs cannot halve.", fix=FIX)
        if self.head_dim < 4 and self.rope.scaling == "dynamic":
            raise BadModel(f"Dynamic rope scaling cannot stretch heads of {self.head_dim}.", fix=FIX)
        if not 0 < self.rms_eps < 1:
            raise BadModel(f"The model says rms_eps is {self.rms_eps}.", fix=FIX)
        self._check_choices()

    @property
    def context_max(self) -> int:
        """Positions that it can be served with: `context`, or as far as its rope scaling stretches beyond."""
        match self.rope.scaling:
            case "linear" | "dynamic":
                stretched = int(self.context * self.rope.factor)
            case "yarn":
                stretched = int(self.rope.original_context * self.rope.factor)
            case _:  # the others state the stretched context itself
                stretched = self.context
        return min(max(self.context, stretched), LIMITS["context"])

    def _check_choices(self) -> None:
        windows, turned = self.choices.windows, self.choices.rope_layers
        if len(windows) != self.num_layers or len(turned) != self.num_layers:
            raise BadModel(
                f"The model has {self.num_layers} layers, but {len(windows)} windows and {len(turned)} RoPE flags.",
                fix=FIX,
            )
        if any(window is not None and window < 1 for window in windows):
            raise BadModel("The model has a sliding window of less than one position.", fix=FIX)


def check_num_layers(num_layers: int) -> int:
    """The number itself, before anything is built in its size."""
    if not 1 <= num_layers <= LIMITS["num_layers"]:
        raise BadModel(f"The model says it has {num_layers} layers.", fix=FIX)
    return num_layers


LIMITS = {"vocab_size": 1 << 24, "num_layers": 4096, "num_heads": 4096, "context": 1 << 27}
"""Above these a file is lying, and building its graph would take unbounded memory."""
FIX = "Check the model's config, or fetch the checkpoint again."
