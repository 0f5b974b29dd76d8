"""How busy another server is, out of its own `/metrics`; which models it has, out of `/v1/models`; its quota, out of
the headers of its answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from isochrone.errors import Unreachable

from .openai_flavours import FLAVOURS, OWNERS, Flavour, Metrics
from .place import Load, Model

NAMES: dict[Metrics, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "vllm": (
        ("vllm:num_requests_running",), ("vllm:num_requests_waiting",),
        ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
    ),
    "sglang": (("sglang:num_running_reqs",), ("sglang:num_queue_reqs",), ("sglang:token_usage",)),
    "llamacpp": (
        ("llamacpp:requests_processing",), ("llamacpp:requests_deferred",), ("llamacpp:kv_cache_usage_ratio",),
    ),
}  # fmt: skip
"""Names, newest first, of what runs, what waits and the share of the cache in use; several engines add up."""
QUOTAS = (("x-ratelimit-remaining-requests", "x-ratelimit-limit-requests"),
          ("x-ratelimit-remaining-tokens", "x-ratelimit-limit-tokens"))  # fmt: skip


def load_of(page: str, metrics: Metrics) -> Load | None:
    """What a page of Prometheus metrics says; None where it names nothing of the kind."""
    samples = _samples(page)
    running, waiting, used = (_named(samples, names) for names in NAMES[metrics])
    if not running and not waiting:
        return None
    return Load(
        num_running=int(sum(running)), num_waiting=int(sum(waiting)), kv_used=max(used) if used else None
    )


def _named(samples: Mapping[str, list[float]], names: tuple[str, ...]) -> list[float]:
    return next((samples[name] for name in names if name in samples), [])


def _samples(page: str) -> dict[str, list[float]]:
    samples: dict[str, list[float]] = {}
    for line in page.splitlines():
        if not line or line[0] == "#":
            continue
        name, _, rest = line.partition("{")
        value = rest.rpartition("}")[2] if rest else line.partition(" ")[2]
        try:
            number = float(value.split()[0])
        except (ValueError, IndexError):
            continue
        if number == number and abs(number) < 1e15:  # no NaN, no infinity
            samples.setdefault((name if rest else line.partition(" ")[0]).strip(), []).append(number)
    return samples


class _Meta(msgspec.Struct):
    n_ctx: int | None = None
    n_ctx_train: int | None = None


class _Listed(msgspec.Struct):
    id: str
    created: int | float | None = None
    owned_by: str | None = None
    max_model_len: int | None = None
    context_length: int | None = None
    meta: _Meta | None = None


class _List(msgspec.Struct):
    data: list[_Listed]


_LIST = msgspec.json.Decoder(_List)


def models_of(place: str, body: bytes, flavour: Flavour | None) -> tuple[tuple[Model, ...], Flavour]:
    """(the models that it lists, whose server it is, told by the owner that it names).  Raises Unreachable."""
    try:
        listed = _LIST.decode(body).data
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unreachable(
            f"{place} lists no models as OpenAI does: {error}.", fix="Check that the place's url ends in /v1."
        ) from None
    owners = {OWNERS.get((model.owned_by or "").lower()) for model in listed}
    known = flavour or FLAVOURS[next((owner for owner in OWNERS.values() if owner in owners), "plain")]
    return tuple(_model(model, known) for model in listed), known


def _model(model: _Listed, flavour: Flavour) -> Model:
    meta = model.meta or _Meta()
    context = model.max_model_len or model.context_length or meta.n_ctx or meta.n_ctx_train
    return Model(model.id, context, int(model.created or 0), model.owned_by or "", abilities=flavour.abilities)


def headroom_of(headers: Mapping[str, str]) -> float | None:
    """The least share of a quota that an answer's headers say is left; None where they say nothing."""
    shares = []
    for left, limit in QUOTAS:
        numbers: list[Any] = [headers.get(left, ""), headers.get(limit, "")]
        if all(number.isdigit() for number in numbers) and int(numbers[1]) > 0:
            shares.append(min(1.0, int(numbers[0]) / int(numbers[1])))
    return min(shares, default=None)
