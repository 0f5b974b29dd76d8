"""A model behind the HTTP face: the gateway in this process, the engine in one of its own.

This process imports no NumPy and no compiler: what the first token waits for happens in the engine's process.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import msgspec

from isochrone import paths
from isochrone.config import Settings, ledger_where
from isochrone.engine.client import EngineClient
from isochrone.engine.records import EngineLimits, EngineSpec
from isochrone.errors import IsochroneError, NotFound
from isochrone.gateway.foresight import Foresight
from isochrone.gateway.meter import Prediction
from isochrone.gateway.serve import Serving, serve
from isochrone.places.local import Local
from isochrone.places.place import Details, Load
from isochrone.places.reader import Reader
from isochrone.predict.latency import Machine
from isochrone.predict.shape import ShapeCost, kv_item_bytes
from isochrone.profile import MachineProfile, load_profile, profile_path
from isochrone.weights import here
from isochrone.weights.content import content_hash

from .facts import Facts, facts_apart, licence_of
from .loading import loading_of
from .reading import read_tokenizer_apart
from .running import recorded

BLOCK_TOKENS = 32
"""Positions in a block of the KV cache, as the runtime lays it out."""
LOAD = "isochrone.api.loading:load_to_serve"
TOKENS = "isochrone.api.loading:load_tokens"


@dataclass(frozen=True, slots=True)
class Served:
    """A model of this machine, ready to be started.  name  what callers call it"""

    name: str
    place: Local
    predictor: FactsForesight | None


def serve_model(
    model: str, settings: Settings, *, name: str | None = None, on_listening: Callable[[str], None] = print,
    on_licence: Callable[[str], None] = lambda licence: None, limits: EngineLimits | None = None,
) -> None:  # fmt: skip
    """Serve until SIGTERM or Ctrl-C.

    name          the id that clients call the model by, its own unless given
    on_listening  called with the URL once callers can connect
    on_licence    called, in a thread, with the model's licence once it is known
    limits        of the engine, for measurements; where spilled blocks go is in the settings
    Raises NotFound, BadModel, BadConfig, MissingExtra, OutOfMemory, Unsupported.
    """
    served = served_model(model, settings, name=name, on_licence=on_licence, limits=limits)
    serving = Serving(
        host=settings.host, port=settings.port, api_key=settings.api_key, drain_s=settings.drain_s,
        log_level=settings.log_level, ledger_path=ledger_where(settings),
    )  # fmt: skip
    with ExitStack() as stack:

        def listening(url: str) -> None:
            stack.enter_context(recorded(served.name, url, time.strftime("%Y-%m-%d %H:%M:%S")))
            on_listening(url)

        serve(served.place, serving, predictor=served.predictor, on_listening=listening)


def served_model(
    model: str, settings: Settings, *, name: str | None = None,
    on_licence: Callable[[str], None] = lambda licence: None, limits: EngineLimits | None = None,
) -> Served:  # fmt: skip
    """The place that a model of this machine is.  Arguments and errors as of `serve_model`."""
    path = here.find(model) or _pulled(model, settings.offline)
    arguments: dict[str, Any] = {**loading_of(path, settings)}
    predictor = _predictor(settings)

    def load_reader() -> Reader:
        tokenizer = read_tokenizer_apart(path)
        facts = facts_apart(path, settings.weights)
        on_licence(licence_of(model, facts.licence))
        if predictor is not None:
            predictor.facts = facts
        return Reader(tokenizer, tokenizer.chat_template, details_of(facts, path))

    limits = msgspec.structs.replace(
        limits or EngineLimits(), spill_bytes=settings.kv_spill_bytes, spill_dir=str(paths.cache_dir() / "spill")
    )
    client = EngineClient(EngineSpec(load=LOAD, tokens=TOKENS, arguments=arguments, limits=limits))
    served = name or served_name(model)
    place = Local(
        served, client, load_reader, created_at=int(path.stat().st_mtime),
        model_hash=cache(lambda: content_hash(path)),
    )  # fmt: skip
    return Served(served, place, predictor)


def details_of(facts: Facts, path: Path) -> Details:
    """What may be told of a model.  path  its file, or the directory of its files"""
    files = [path] if path.is_file() else [file for file in path.iterdir() if file.is_file()]
    return Details(
        num_parameters=facts.shape.num_parameters,
        size_bytes=sum(file.stat().st_size for file in files),
        form=facts.form.name,
        licence=facts.licence or "",
    )


class FactsForesight:
    """Fulfils `Predictor` from a model's facts, which a first start only finds while the engine loads."""

    def __init__(self, profile: MachineProfile, settings: Settings) -> None:
        self.facts: Facts | None = None
        self._profile, self._settings = profile, settings

    @cached_property
    def _foresight(self) -> Foresight:
        """Made after the first answer, so that the model has been read."""
        assert self.facts is not None, "no request is answered before the model was read"
        shape, kv_type = self.facts.shape, self._settings.kv_type
        has_bf16_dot = kv_type == "bf16" and self._profile.bf16 is not None
        cost = ShapeCost(shape, self.facts.form, kv_item_bytes(kv_type, shape.head_dim), has_bf16_dot)
        machine = Machine(self._profile, self._settings.threads or self._profile.num_cores)
        return Foresight(cost, machine, block_tokens=BLOCK_TOKENS)

    def predict(self, num_prompt: int, num_cached: int, num_answer: int, load: Load) -> Prediction:
        """See `Predictor.predict`."""
        return self._foresight.predict(num_prompt, num_cached, num_answer, load)

    def learn(self, prediction: Prediction, ttft_s: float, itl_s: float | None) -> None:
        """See `Predictor.learn`."""
        self._foresight.learn(prediction, ttft_s, itl_s)


def _predictor(settings: Settings) -> FactsForesight | None:
    """What prices requests, for the log and the metrics; None, said on stderr, where the machine was never probed."""
    try:
        return FactsForesight(load_profile(profile_path()), settings)
    except IsochroneError as error:
        print(f"Requests are served without predictions. {error}", file=sys.stderr)
        return None


def _pulled(model: str, offline: bool) -> Path:
    """Pull in a process of its own, which shows the progress: what pulling imports is not kept in memory."""
    command = [sys.executable, "-m", "isochrone.cli", "pull", model, *(["--offline"] if offline else [])]
    code = subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode
    path = here.find(model) if code == 0 else None
    if path is None:
        raise NotFound(f"{model} is not on this machine, and could not be pulled.", fix="See the lines above.")
    return path


def served_name(model: str) -> str:
    """What a model is called by clients: its name, or the file's name without its ending for a path."""
    if model in here.known_names() or not Path(model).expanduser().exists():
        return model
    path = Path(model).expanduser().resolve()
    return path.stem if path.is_file() else path.name
