"""Before any download: does a model fit this machine, how fast would it be, and in which form.

    predict_model(shape, None, profile, prompt_tokens=2000, output_tokens=200, free_bytes=...)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from isochrone.errors import BadRequest, ContextTooLong
from isochrone.profile import MachineProfile

from .correction import Quantiles
from .latency import Machine, predict_request
from .shape import AUTOMATIC_FORMS, FORMS, Form, ModelShape, ShapeCost, kv_bytes_per_token, kv_item_bytes, weight_bytes

PROCESS_BYTES = 120_000_000
"""What both processes hold beside weights and cache: Python, NumPy, the tokenizer, the kernels."""
ARENA_BYTES_PER_TOKEN = 4
"""Bytes per token and element of a layer's widest activations."""


@dataclass(frozen=True, slots=True)
class FormPrediction:
    """One form of the model on this machine.

    memory_bytes   weights, cache for the prompt and the answer, working memory and processes
    """

    form: str
    fits: bool
    weight_bytes: int
    kv_bytes: int
    memory_bytes: int
    ttft: Quantiles
    itl: Quantiles
    total_s_p50: float

    @property
    def tokens_per_s(self) -> float:
        """Rate of the answer at the median."""
        return 1.0 / self.itl.s_p50


@dataclass(frozen=True, slots=True)
class ModelPrediction:
    """Every form that was asked about, best quality first, and the one to take.

    choice   the name of the form to take, None when none fits
    """

    num_parameters: int
    free_bytes: int
    forms: tuple[FormPrediction, ...]
    choice: str | None

    @property
    def chosen(self) -> FormPrediction | None:
        """The prediction of the form to take."""
        return next((form for form in self.forms if form.form == self.choice), None)


def predict_model(
    shape: ModelShape,
    weight_form: str | None,
    profile: MachineProfile,
    *,
    prompt_tokens: int,
    output_tokens: int,
    free_bytes: int,
    kv_type: Literal["bf16", "int8"] = "bf16",
    threads: int | None = None,
    ttft_max_s: float | None = None,
    itl_max_s: float | None = None,
    forms: Mapping[str, Form] = FORMS,
) -> ModelPrediction:
    """Price a model from its config.

    weight_form   one of `forms`, or None to choose: the best form that fits the memory and, when stated, the budget
    free_bytes    memory that may be used
    Raises BadRequest for a form that does not exist, ContextTooLong when prompt and answer exceed the context.
    """
    if prompt_tokens < 1 or output_tokens < 1:
        raise BadRequest("A prediction needs a prompt and an answer of at least one token.", fix="Ask for 1 or more.")
    if prompt_tokens + output_tokens > shape.context:
        raise ContextTooLong(
            f"{prompt_tokens} prompt and {output_tokens} answer tokens exceed the model's context of {shape.context}.",
            fix="Ask for a shorter prompt or answer.",
        )
    if weight_form is not None and weight_form not in forms:
        raise BadRequest(f"There is no form {weight_form!r}.", fix=f"Use one of: {', '.join(forms)}.")
    automatic = [name for name in AUTOMATIC_FORMS if name in forms] or list(forms)
    asked = tuple(forms[name] for name in (automatic if weight_form is None else [weight_form]))
    machine = Machine(profile, threads or profile.num_cores)
    predictions = tuple(
        predict_form(shape, form, machine, prompt_tokens, output_tokens, free_bytes, kv_type) for form in asked
    )
    choice = choose_form(predictions, ttft_max_s=ttft_max_s, itl_max_s=itl_max_s)
    return ModelPrediction(shape.num_parameters, free_bytes, predictions, choice)


def predict_form(
    shape: ModelShape, form: Form, machine: Machine, prompt_tokens: int, output_tokens: int, free_bytes: int,
    kv_type: Literal["bf16", "int8"] = "bf16",
) -> FormPrediction:  # fmt: skip
    """Size and speed of one form."""
    has_bf16_dot = kv_type == "bf16" and machine.profile.bf16 is not None
    cost = ShapeCost(shape, form, kv_item_bytes(kv_type, shape.head_dim), has_bf16_dot)
    speed = predict_request(cost, machine, prompt_tokens=prompt_tokens, output_tokens=output_tokens)
    weights = weight_bytes(shape, form)
    kv = int(kv_bytes_per_token(shape, cost.kv_item_bytes) * (prompt_tokens + output_tokens))
    widest = 2 * shape.hidden + sum(n for n, _ in shape.layer_matrices.values())
    memory = weights + kv + PROCESS_BYTES + ARENA_BYTES_PER_TOKEN * widest * min(prompt_tokens, 512)
    return FormPrediction(
        form.name, memory <= free_bytes, weights, kv, memory, speed.ttft, speed.itl, speed.total_s_p50
    )


def choose_form(
    predictions: tuple[FormPrediction, ...], *, ttft_max_s: float | None, itl_max_s: float | None
) -> str | None:
    """The first (best) form that fits memory and budget; when no form meets the budget, the fastest that fits."""
    fitting = [form for form in predictions if form.fits]
    for form in fitting:
        meets_ttft = ttft_max_s is None or form.ttft.s_p95 <= ttft_max_s
        if meets_ttft and (itl_max_s is None or form.itl.s_p95 <= itl_max_s):
            return form.form
    return min(fitting, key=lambda form: form.total_s_p50).form if fitting else None
