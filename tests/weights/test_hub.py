"""Hub models: fetched into the shared cache from a hub that answers like the real one, found there without it."""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from isochrone.errors import BadModel, NotFound, Unreachable
from isochrone.weights import hub, open_checkpoint
from isochrone.weights.here import find
from tests.weights.make import small_gguf, small_safetensors

COMMIT = "a" * 40
MODEL = small_safetensors({"w": np.ones((64, 512), np.float32)})
FILES = {
    "org/model": {"config.json": b"{}", "model.safetensors": MODEL, "big.bin": b"x", "README.md": b"# m\n"},
    "org/one": {"m.gguf": small_gguf().bytes()},
    "org/two": {"a.gguf": b"", "b.gguf": b""},
    "org/none": {"pytorch_model.bin": b""},
}


class Hub(BaseHTTPRequestHandler):
    """The parts of the hub's interface that fetching takes."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()

    def answer(self):
        path = self.path.partition("?")[0].strip("/").split("/")
        if path[:2] == ["api", "models"]:
            return self.describe("/".join(path[2:4]), path[4:])
        content = FILES.get("/".join(path[:2]), {}).get("/".join(path[4:]))
        if content is None:
            return self.reply(404, b"", {"X-Error-Code": "EntryNotFound"})
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        return self.reply(200, content, {"ETag": etag, "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"})

    def describe(self, repository, rest):
        if repository not in FILES:
            return self.reply(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        files = FILES[repository]
        if rest[:1] == ["tree"]:
            found = [{"type": "file", "path": name, "size": len(body), "oid": "0" * 40} for name, body in files.items()]
        else:
            found = {"id": repository, "sha": COMMIT, "siblings": [{"rfilename": name} for name in files]}
        return self.reply(
            200, json.dumps(found).encode(), {"Content-Type": "application/json", "X-Repo-Commit": COMMIT}
        )

    def reply(self, status, body, headers):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args):
        """No word on stderr."""


@pytest.fixture
def library(tmp_path, monkeypatch):
    """The hub's library, pointed at a hub of ours and at an empty cache."""
    huggingface_hub = pytest.importorskip("huggingface_hub")
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    for name in ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_XET"):
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", name == "HF_HUB_DISABLE_XET")
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        endpoint, cache = f"http://127.0.0.1:{server.server_address[1]}", tmp_path / "hub"
        api = huggingface_hub.HfApi(endpoint=endpoint)
        fetch_all, fetch_one = huggingface_hub.snapshot_download, huggingface_hub.hf_hub_download
        here = {"endpoint": endpoint, "cache_dir": cache}
        monkeypatch.setattr(huggingface_hub, "HfApi", lambda: api)
        monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *a, **k: fetch_all(*a, **k, **here))
        monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *a, **k: fetch_one(*a, **k, **here))
        yield huggingface_hub
        server.shutdown()


def test_a_directory_is_fetched_with_what_is_needed_and_then_found_without_the_hub(library):
    reports = []
    assert find("org/model") is None
    path = hub.pull_from_hub("org/model", lambda done, total: reports.append((done, total)))
    assert sorted(file.name for file in path.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert open_checkpoint(path).tensors["w"].shape == (64, 512)
    assert find("org/model") == path
    assert max(done for done, _ in reports) >= len(MODEL)
    (path / "model.safetensors").unlink()
    assert find("org/model") is None


def test_the_one_gguf_file_of_a_repository_is_fetched(library):
    path = hub.pull_from_hub("org/one", lambda done, total: None)
    assert open_checkpoint(path).kind == "gguf"
    assert find("org/one:m.gguf") == path


def test_a_choice_among_files_is_left_to_the_user(library):
    with pytest.raises(BadModel, match=r"a\.gguf, b\.gguf") as caught:
        hub.pull_from_hub("org/two", lambda done, total: None)
    assert "org/two:FILE.gguf" in caught.value.fix
    with pytest.raises(BadModel, match="no weights that are read here"):
        hub.pull_from_hub("org/none", lambda done, total: None)


def test_what_the_hub_does_not_have_is_not_found(library):
    with pytest.raises(NotFound):
        hub.pull_from_hub("org/missing", lambda done, total: None)
    with pytest.raises(NotFound):
        hub.pull_from_hub("org/one:other.gguf", lambda done, total: None)


def test_a_hub_that_fails_is_unreachable(library, monkeypatch):
    def fails(*args, **kwargs):
        raise ConnectionError("cut")

    monkeypatch.setattr(library, "hf_hub_download", fails)
    with pytest.raises(Unreachable, match="cut"):
        hub.pull_from_hub("org/one:m.gguf", lambda done, total: None)
