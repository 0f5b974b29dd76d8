"""A model behind the HTTP face: the gateway in this process, the engine in one of its own.

This process imports no NumPy and no compiler: what the first token waits for happens in the engine's process.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from isochrone.config import Settings
from isochrone.engine.client import EngineClient
from isochrone.engine.records import EngineSpec
from isochrone.errors import IsochroneError, NotFound
from isochrone.gateway.foresight import Foresight
from isochrone.gateway.serve import Serving, serve
from isochrone.places.local import Local
from isochrone.places.reader import Reader
from isochrone.predict import Machine, ShapeCost
from isochrone.profile import load_profile, profile_path
from isochrone.weights import here
from isochrone.weights.catalogue import CATALOGUE

from .loading import loading_of
from .reading import read_tokenizer
from .running import recorded
from .shapes import kept_shape

BLOCK_TOKENS = 32
"""Positions in a block of the KV cache, as the runtime lays it out."""
LOAD = "isochrone.api.loading:load_to_serve"


def serve_model(
    model: str, settings: Settings, *, name: str | None = None, on_listening: Callable[[str], None] = print
) -> None:
    """Serve until SIGTERM or Ctrl-C.

    name          the id that clients call the model by, its own unless given
    on_listening  called with the URL once callers can connect
    Raises NotFound, BadModel, BadConfig, MissingExtra, OutOfMemory, Unsupported.
    """
    path = here.find(model) or _pulled(model, settings.offline)
    served = name or served_name(model)
    arguments: dict[str, Any] = {**loading_of(path, settings)}
    spec = EngineSpec(load=LOAD, arguments=arguments)
    place = Local(served, EngineClient(spec), partial(_reader, path), created_at=int(path.stat().st_mtime))
    serving = Serving(
        host=settings.host, port=settings.port, api_key=settings.api_key, drain_s=settings.drain_s,
        log_level=settings.log_level,
    )  # fmt: skip
    with ExitStack() as stack:

        def listening(url: str) -> None:
            stack.enter_context(recorded(served, url, time.strftime("%Y-%m-%d %H:%M:%S")))
            on_listening(url)

        serve(place, serving, predictor=_foresight(path, settings), on_listening=listening)


def _foresight(path: Path, settings: Settings) -> Foresight | None:
    """What prices requests, for the log and the metrics; None, said on stderr, where the machine was never probed."""
    try:
        profile = load_profile(profile_path())
    except IsochroneError as error:
        print(f"Requests are served without predictions. {error}", file=sys.stderr)
        return None
    known = kept_shape(path, settings.weights)
    if known is None:
        command = [sys.executable, "-m", "isochrone.api.shapes", str(path), settings.weights]
        subprocess.run(command, check=False)  # what is wrong with the model, its loading says better
        known = kept_shape(path, settings.weights)
    if known is None:
        return None
    cost = ShapeCost(*known, has_bf16_dot=profile.bf16 is not None)
    return Foresight(cost, Machine(profile, settings.threads or profile.num_cores), block_tokens=BLOCK_TOKENS)


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


def _reader(path: Path) -> Reader:
    tokenizer = read_tokenizer(path)
    return Reader(tokenizer, tokenizer.chat_template)


def licence_of(model: str) -> str:
    """The licence of a short-named model; `isochrone pull` shows it of any."""
    entry = CATALOGUE.get(model)
    return entry.license if entry else "see the model's own page"
