"""`ps`: a server is listed while its process lives, and its record goes with it."""

import json

import pytest

from isochrone import paths
from isochrone.api import running


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("ISOCHRONE_HOME", str(tmp_path))


def test_a_server_is_listed_while_it_runs_and_not_after():
    assert running.servers() == ()
    with running.recorded("m", "http://127.0.0.1:8400", "2026-01-02 03:04"):
        (server,) = running.servers()
        assert (server.model, server.url) == ("m", "http://127.0.0.1:8400")
    assert running.servers() == ()


def test_the_record_of_a_killed_server_is_swept_away():
    with running.recorded("m", "http://127.0.0.1:8400", "2026-01-02 03:04"):
        (file,) = paths.run_dir().glob("*.json")
        record = json.loads(file.read_text())
        namesake = file.with_name("1.json")
        namesake.write_text(json.dumps({**record, "process_id": 1, "started_ticks": record["started_ticks"] + 1}))
        assert len(running.servers()) == 1 and not namesake.exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"model": "m"}'])
def test_a_broken_record_is_no_server(text):
    broken = paths.made(paths.run_dir()) / "7.json"
    broken.write_text(text)
    assert running.servers() == () and not broken.exists()
