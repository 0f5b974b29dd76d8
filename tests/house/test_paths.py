"""Files lie where XDG says, or all under ISOCHRONE_HOME."""

from pathlib import Path

import pytest

from isochrone import paths


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path):
    for name in ("CONFIG_HOME", "DATA_HOME", "CACHE_HOME", "STATE_HOME", "RUNTIME_DIR"):
        monkeypatch.delenv(f"XDG_{name}", raising=False)
    monkeypatch.delenv("ISOCHRONE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_without_variables_the_xdg_defaults_hold(tmp_path):
    assert paths.config_dir() == tmp_path / ".config/isochrone"
    assert paths.data_dir() == tmp_path / ".local/share/isochrone"
    assert paths.cache_dir() == tmp_path / ".cache/isochrone"
    assert paths.state_dir() == tmp_path / ".local/state/isochrone"
    assert paths.run_dir() == tmp_path / ".local/state/isochrone/run"


def test_xdg_variables_move_one_directory_each(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/srv/cache")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    assert paths.cache_dir() == Path("/srv/cache/isochrone")
    assert paths.run_dir() == Path("/run/user/7/isochrone")
    assert paths.data_dir().parts[-3:] == (".local", "share", "isochrone")


def test_a_relative_xdg_path_is_ignored_as_the_standard_says(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", "here")
    assert paths.data_dir() == tmp_path / ".local/share/isochrone"


def test_isochrone_home_holds_everything(monkeypatch):
    monkeypatch.setenv("ISOCHRONE_HOME", "/var/lib/isochrone")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    rooms = {paths.config_dir(), paths.data_dir(), paths.cache_dir(), paths.state_dir()}
    assert {room.parent for room in rooms} == {Path("/var/lib/isochrone")} and len(rooms) == 4
    assert paths.run_dir() == Path("/var/lib/isochrone/state/run")


def test_made_directories_are_their_owners_alone(tmp_path):
    directory = paths.made(tmp_path / "a" / "b")
    assert directory.is_dir() and directory.stat().st_mode & 0o777 == 0o700
    assert paths.made(directory) == directory
