"""A model's shape on disk, so that the gateway can price requests without reading the model.

The record is made once, by a process of its own (`python -m isochrone.api.shapes PATH FORM`), and found by the file's
identity.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path

from isochrone import paths
from isochrone.graph.formats import FORMATS
from isochrone.predict import FORMS, Form, ModelShape


def shape_file(path: Path, weights: str) -> Path:
    """Where the record of the model at `path`, run in this form, lies."""
    about = os.stat(path)
    identity = f"{path.resolve()} {about.st_size} {about.st_mtime_ns} {weights}"
    return paths.cache_dir() / "shapes" / f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.json"


def keep_shape(path: Path, weights: str) -> None:
    """Write the record of a model that is here, unless there is one.  Raises BadModel."""
    file = shape_file(path, weights)
    if file.exists():
        return
    from .predicting import read_model, shape_of

    config, stored = read_model(str(path), offline=True)
    form = stored or FORMS.get(weights, FORMS["bf16"])
    record = {"shape": asdict(shape_of(config)), "form": [form.name, form.body.name, form.head.name]}
    aside = paths.made(file.parent) / f"{file.name}.{os.getpid()}"
    aside.write_text(json.dumps(record))
    os.replace(aside, file)


def kept_shape(path: Path, weights: str) -> tuple[ModelShape, Form] | None:
    """The record, or None where there is none that can be read."""
    try:
        record = json.loads(shape_file(path, weights).read_text())
        name, body, head = record["form"]
        return ModelShape(**record["shape"]), Form(name, FORMATS[body], FORMATS[head])
    except (OSError, ValueError, KeyError, TypeError):
        return None


if __name__ == "__main__":
    import sys

    keep_shape(Path(sys.argv[1]), sys.argv[2])
