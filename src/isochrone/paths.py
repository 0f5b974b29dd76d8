"""Where Isochrone keeps its files: the XDG directories, or everything under ISOCHRONE_HOME.

    config   settings a person wrote            $XDG_CONFIG_HOME/isochrone
    data     models that were pulled            $XDG_DATA_HOME/isochrone
    cache    what can be made again: kernels,   $XDG_CACHE_HOME/isochrone
             packed weights, tokenizers
    state    profile of the machine, ledger     $XDG_STATE_HOME/isochrone
    run      running servers, for `ps`          $XDG_RUNTIME_DIR/isochrone, else state/run

Directories are made when first written to, for their owner only.
"""

from __future__ import annotations

import os
from pathlib import Path

_XDG_DEFAULTS = {
    "config": ("XDG_CONFIG_HOME", ".config"),
    "data": ("XDG_DATA_HOME", ".local/share"),
    "cache": ("XDG_CACHE_HOME", ".cache"),
    "state": ("XDG_STATE_HOME", ".local/state"),
}


def config_dir() -> Path:
    """Settings a person wrote."""
    return _room("config")


def data_dir() -> Path:
    """Models that were pulled."""
    return _room("data")


def cache_dir() -> Path:
    """What can be made again: kernels, packed weights, tokenizers."""
    return _room("cache")


def state_dir() -> Path:
    """The machine's profile and the ledger."""
    return _room("state")


def ledger_path() -> Path:
    """The ledger: keys, timelines of requests, stored responses."""
    return state_dir() / "ledger.db"


def run_dir() -> Path:
    """Records of the servers that run now."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if os.environ.get("ISOCHRONE_HOME") or not os.path.isabs(runtime):
        return state_dir() / "run"
    return Path(runtime) / "isochrone"


def made(directory: Path) -> Path:
    """The directory, made if it was missing, readable by its owner only."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return directory


def _room(kind: str) -> Path:
    home = os.environ.get("ISOCHRONE_HOME")
    if home:
        return Path(home).expanduser().absolute() / kind
    variable, default = _XDG_DEFAULTS[kind]
    base = os.environ.get(variable, "")
    # The XDG rules: a relative path in the variable is to be ignored.
    root = Path(base) if os.path.isabs(base) else Path.home() / default
    return root / "isochrone"
