"""Models of the Hugging Face hub: found in the shared cache without its library, fetched with it."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import BadModel, NotAllowed, NotFound, Unreachable
from .index import Report

_PATTERNS = ["*.json", "*.safetensors", "*.jinja", "tokenizer.model", "README.md"]


def pull_from_hub(name: str, report: Report) -> Path:
    """Fetch a hub model into the shared cache, going on where an earlier pull stopped.

    Raises NotFound, NotAllowed, BadModel or Unreachable.
    """
    repository, _, file = name.partition(":")
    if file:
        return fetch_hub_file(repository, file, report)
    names = _asked(name, lambda hub: hub.HfApi().list_repo_files(repository))
    if "config.json" in names and any(found.endswith(".safetensors") for found in names):
        bars = _bars(report)
        return Path(
            _asked(name, lambda hub: hub.snapshot_download(repository, allow_patterns=_PATTERNS, tqdm_class=bars))
        )
    files = [found for found in names if found.endswith(".gguf")]
    if len(files) == 1:
        return fetch_hub_file(repository, files[0], report)
    choices = ", ".join(files[:12]) or "no weights that are read here (safetensors with config.json, or GGUF)"
    raise BadModel(f"{repository} has {choices}.", fix=f"Name one file: {repository}:FILE.gguf, or another model.")


def fetch_hub_file(repository: str, file: str, report: Report) -> Path:
    """One file of a repository, in the shared cache.  Raises as `pull_from_hub`."""
    bars = _bars(report)
    return Path(_asked(repository, lambda hub: hub.hf_hub_download(repository, file, tqdm_class=bars)))


def _asked(name: str, ask: Callable[[Any], Any]) -> Any:
    """Ask the hub's library; its errors become ours."""
    import huggingface_hub as hub
    from huggingface_hub import errors

    try:
        return ask(hub)
    except errors.GatedRepoError as error:
        raise NotAllowed(f"{name} is gated on the hub.", fix="Accept its terms there and set HF_TOKEN.") from error
    except (errors.RepositoryNotFoundError, errors.RemoteEntryNotFoundError, errors.HFValidationError) as error:
        raise NotFound(f"The hub does not have {name}.", fix="Check the name; private ones need HF_TOKEN.") from error
    except Exception as error:
        # The library lets the exceptions of three HTTP stacks through, and which ones depends on its version.
        raise Unreachable(
            f"The hub did not give {name}: {type(error).__name__}: {str(error)[:300]}.",
            fix="Check the network (and HF_ENDPOINT), or name a model that is here: `isochrone models`.",
        ) from error


def _bars(report: Report) -> Any:
    """A progress-bar class for the hub's library that draws nothing and reports the bytes of all its bars."""
    from tqdm.auto import tqdm  # type: ignore[import-untyped]

    here: dict[int, int] = {}
    totals: dict[int, int] = {}

    class Bars(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.counts_bytes = kwargs.get("unit") == "B"
            kwargs.pop("name", None)
            super().__init__(*args, **{**kwargs, "disable": False, "file": io.StringIO()})

        def update(self, n: float | None = 1) -> bool | None:
            drawn: bool | None = super().update(n)
            if self.counts_bytes:
                here[id(self)], totals[id(self)] = int(self.n), int(self.total or 0)
                report(sum(here.values()), sum(totals.values()))
            return drawn

    return Bars
