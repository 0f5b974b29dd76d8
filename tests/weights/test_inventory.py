"""What is here and what it takes: short-named models, the hub's cache, packed copies; and what goes when it goes."""

from __future__ import annotations

import pytest

from isochrone.errors import NotFound
from isochrone.weights import catalogue, inventory
from isochrone.weights.catalogue import CATALOGUE, CatalogueEntry
from isochrone.weights.fingerprint import fingerprint
from isochrone.weights.here import hub_folder, target_of
from isochrone.weights.packed import list_packed, open_or_pack, packed_path
from tests.weights.make import small_gguf

MODEL = small_gguf().bytes()


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("ISOCHRONE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    source = catalogue.WheelSource("small-model", "1.0", "x.whl", "m.gguf", 1)
    entry = CatalogueEntry("small", "m.gguf", len(MODEL), "0" * 64, "MIT", source, catalogue.HubSource("a/b", "m.gguf"))
    monkeypatch.setitem(CATALOGUE, "small", entry)
    return tmp_path


@pytest.fixture
def pulled():
    path = target_of(CATALOGUE["small"])
    path.parent.mkdir(parents=True)
    path.write_bytes(MODEL)
    return path


def fetched(repository, *files):
    """A repository in the hub's cache, as its library lays it out."""
    folder = hub_folder(repository)
    (folder / "blobs").mkdir(parents=True)
    snapshot = folder / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")
    for number, file in enumerate(files):
        (folder / "blobs" / str(number)).write_bytes(MODEL)
        (snapshot / file).symlink_to(f"../../blobs/{number}")
    return snapshot


def pack(path, model="m"):
    prefix = path if isinstance(path, str) else fingerprint(path)
    open_or_pack(packed_path(prefix, "plan"), {"model": model}, {"a": 10}, lambda tensors: None)
    return list_packed()[0].num_bytes


def listed():
    return {model.name: model for model in inventory.models() if model.name != "smollm2-135m"}


def test_a_pulled_model_is_listed_with_its_packed_copies_and_both_go(pulled):
    packed_bytes = pack(pulled)
    pack("elsewhere", "other.gguf")
    found = listed()
    assert (found["small"].num_bytes, found["small"].packed_bytes, found["small"].license) == (
        len(MODEL), packed_bytes, "MIT",
    )  # fmt: skip
    assert inventory.remove("small") == len(MODEL) + packed_bytes
    assert list(listed()) == ["other.gguf"] and not pulled.exists()
    with pytest.raises(NotFound):
        inventory.remove("small")


def test_a_hub_model_is_listed_and_leaves_the_shared_cache():
    snapshot = fetched("org/one", "m.gguf")
    packed_bytes = pack(snapshot)
    found = listed()["org/one"]
    assert (found.path, found.num_bytes, found.packed_bytes) == (snapshot, len(MODEL), packed_bytes)
    assert inventory.remove("org/one") == len(MODEL) + packed_bytes
    assert listed() == {} and not hub_folder("org/one").exists()


def test_one_file_of_several_is_listed_by_its_own_name_and_goes_alone():
    fetched("org/two", "a.gguf", "b.gguf")
    assert list(listed()) == ["org/two:a.gguf", "org/two:b.gguf"]
    assert inventory.remove("org/two:a.gguf") == len(MODEL)
    assert list(listed()) == ["org/two"], "the one file that is left is the model"
    assert [file.name for file in (hub_folder("org/two") / "blobs").iterdir()] == ["1"]


def test_what_was_half_fetched_or_is_no_model_is_not_listed():
    fetched("org/half", "config.json")
    (hub_folder("org/empty") / "snapshots").mkdir(parents=True)
    assert listed() == {}


def test_of_a_model_named_by_its_path_only_the_packed_copies_go(home):
    path = home / "mine.gguf"
    path.write_bytes(MODEL)
    packed_bytes = pack(path, "mine.gguf")
    assert listed()["mine.gguf"].path is None
    assert inventory.remove(str(path)) == packed_bytes
    assert path.exists() and listed() == {}


def test_packed_copies_whose_model_is_gone_go_by_the_name_they_are_listed_under():
    packed_bytes = pack("gone", "gone.gguf")
    assert listed()["gone.gguf"].packed_bytes == packed_bytes
    assert inventory.remove("gone.gguf") == packed_bytes
    assert listed() == {}


def test_a_broken_model_is_listed_too():
    snapshot = fetched("org/broken", "m.gguf")
    (snapshot / "m.gguf").resolve().write_bytes(b"no model")
    assert listed()["org/broken"].license is None
    assert inventory.remove("org/broken") == 8
