"""What a model's file says of itself, kept on disk: licence, shape and form, found by the file's identity.

A server prices requests and names the licence without reading the model, which would load NumPy: the record is made
once, by a process of its own (`python -m isochrone.api.facts PATH FORM`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from isochrone import paths
from isochrone.errors import BadModel, NotFound
from isochrone.graph.formats import FORMATS
from isochrone.predict.shape import FORMS, Form, ModelShape
from isochrone.weights import here
from isochrone.weights.catalogue import CATALOGUE


@dataclass(frozen=True, slots=True)
class Facts:
    """A model on this machine, run in one form.  licence  as the file or its card names it; None when it does not"""

    licence: str | None
    shape: ModelShape
    form: Form


def facts_file(path: Path, weights: str) -> Path:
    """Where the record of the model at `path`, run in this form, lies."""
    about = os.stat(path)
    identity = f"{path.resolve()} {about.st_size} {about.st_mtime_ns} {weights}"
    return paths.cache_dir() / "facts" / f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.json"


def kept_facts(path: Path, weights: str) -> Facts | None:
    """The record, or None where there is none that can be read."""
    try:
        return _from_text(facts_file(path, weights).read_text())
    except OSError:
        return None


def known_facts(path: Path, weights: str) -> Facts:
    """The record, made now in this process if there is none.  Raises NotFound, BadModel."""
    found = kept_facts(path, weights)
    if found is not None:
        return found
    from isochrone.weights import open_checkpoint

    from .predicting import config_of, shape_of, stored_form

    checkpoint = open_checkpoint(path)
    form = stored_form(checkpoint) or FORMS.get(weights, FORMS["bf16"])
    facts = Facts(checkpoint.license, shape_of(config_of(checkpoint)), form)
    _keep(facts, facts_file(path, weights))
    return facts


def facts_apart(path: Path, weights: str) -> Facts:
    """`known_facts` for a process that must not import what reads checkpoints.  Raises BadModel."""
    found = kept_facts(path, weights)
    if found is not None:
        return found
    command = [sys.executable, "-m", "isochrone.api.facts", str(path), weights]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = _from_text(done.stdout)
    if found is None:
        said = done.stderr.strip().rpartition("\n")[2] or "the process that reads it said nothing"
        raise BadModel(f"{path} cannot be read: {said}.", fix="Use another copy of the model.")
    return found


def licence_of(model: str, stated: str | None) -> str:
    """The licence as people are shown it.  stated  by the model's file or card"""
    entry = CATALOGUE.get(model)
    return entry.license if entry else stated or "not stated"


def licence_here(model: str, weights: str) -> str:
    """The licence of a model that is on this machine.  Raises NotFound, BadModel."""
    path = here.find(model)
    if path is None:
        raise NotFound(f"{model} is not on this machine.", fix=f"isochrone pull {model}")
    return licence_of(model, known_facts(path, weights).licence)


def _keep(facts: Facts, file: Path) -> None:
    """Written aside and renamed.  Where the cache cannot be written, the model is read again at the next start."""
    with contextlib.suppress(OSError):
        aside = paths.made(file.parent) / f"{file.name}.{os.getpid()}"
        aside.write_text(_text(facts))
        os.replace(aside, file)


def _text(facts: Facts) -> str:
    form = [facts.form.name, facts.form.body.name, facts.form.head.name]
    return json.dumps({"licence": facts.licence, "shape": asdict(facts.shape), "form": form})


def _from_text(text: str) -> Facts | None:
    try:
        record = json.loads(text)
        name, body, head = record["form"]
        return Facts(record["licence"], ModelShape(**record["shape"]), Form(name, FORMATS[body], FORMATS[head]))
    except (ValueError, KeyError, TypeError):
        return None


if __name__ == "__main__":
    print(_text(known_facts(Path(sys.argv[1]), sys.argv[2])))
