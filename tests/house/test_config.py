"""Settings: flag over environment over file over default, each value with its origin, no key unknown."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone import config
from isochrone.errors import BadConfig


def resolve(tmp_path, *, flags=None, environ=None, toml=None):
    file = tmp_path / "config.toml"
    if toml is not None:
        file.write_text(toml)
    return config.resolve(flags or {}, environ or {}, file)


def value_of(resolved, key):
    return next(value for value in resolved.values if value.key == key)


@given(flag=st.booleans(), environment=st.booleans(), file=st.booleans())
def test_the_nearest_source_to_the_person_wins(tmp_path_factory, flag, environment, file):
    resolved = resolve(
        tmp_path_factory.mktemp("config"),
        flags={"port": "1" if flag else None},
        environ={"ISOCHRONE_PORT": "2"} if environment else {},
        toml="port = 3" if file else None,
    )
    expected = 1 if flag else 2 if environment else 3 if file else 8400
    source = "flag" if flag else "environment" if environment else "file" if file else "default"
    assert resolved.settings.port == expected
    assert value_of(resolved, "port").source == source


def test_an_origin_names_flag_variable_or_file(tmp_path):
    resolved = resolve(tmp_path, flags={"threads": "2"}, environ={"ISOCHRONE_HOST": "::1"}, toml="offline = true")
    assert value_of(resolved, "threads").origin == "flag --threads"
    assert value_of(resolved, "host").origin == "environment ISOCHRONE_HOST"
    assert value_of(resolved, "offline").origin == f"file {tmp_path / 'config.toml'}"
    assert value_of(resolved, "port").origin == "default"
    assert resolved.settings.offline is True


def test_edge_units_become_bytes_and_seconds(tmp_path):
    settings = resolve(tmp_path, flags={"kv_memory": "1.5 GB", "drain": "500ms"}).settings
    assert settings.kv_memory_bytes == 1_500_000_000 and settings.drain_s == 0.5
    assert resolve(tmp_path, flags={"kv_memory": "auto"}).settings.kv_memory_bytes is None


def test_a_misspelt_key_in_the_file_names_the_nearest(tmp_path):
    with pytest.raises(BadConfig, match="sets 'thread'") as caught:
        resolve(tmp_path, toml="thread = 2")
    assert "threads" in caught.value.fix


def test_a_misspelt_variable_names_the_nearest(tmp_path):
    with pytest.raises(BadConfig, match="ISOCHRONE_PROT") as caught:
        resolve(tmp_path, environ={"ISOCHRONE_PROT": "1"})
    assert "ISOCHRONE_PORT" in caught.value.fix


def test_variables_of_others_and_of_places_are_left_alone(tmp_path):
    environ = {"PORT": "1", "ISOCHRONE_HOME": "/srv", "ISOCHRONE_DATA": "/data", "ISOCHRONE_CONFIG": "/etc/x.toml"}
    assert resolve(tmp_path, environ=environ).settings == config.Settings()


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("port", "70000"), ("port", "http"), ("offline", "maybe"),
        ("weights", "int3"), ("kv_memory", "lots"), ("drain", "30"),
    ],
)
def test_a_value_that_cannot_be_used_says_which_setting_and_where_from(tmp_path, key, text):
    with pytest.raises(BadConfig) as caught:
        resolve(tmp_path, environ={f"ISOCHRONE_{key.upper()}": text})
    assert key in caught.value.message and f"ISOCHRONE_{key.upper()}" in caught.value.message
    assert caught.value.fix


@pytest.mark.parametrize("toml", ["port = ", "[port]\na = 1", "port = [1]"])
def test_a_broken_file_is_named(tmp_path, toml):
    with pytest.raises(BadConfig, match=r"config\.toml"):
        resolve(tmp_path, toml=toml)


def test_a_secret_is_never_shown(tmp_path):
    resolved = resolve(tmp_path, environ={"ISOCHRONE_API_KEY": "hunter2"})
    assert resolved.settings.api_key == "hunter2"
    assert all("hunter2" not in value.shown for value in resolved.values)


def test_every_setting_is_explained_and_frozen():
    assert all(text.endswith(".") and len(text) > 20 for text in config.keys().values())
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.Settings().port = 1
