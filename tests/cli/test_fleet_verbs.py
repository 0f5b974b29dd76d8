"""The verbs of a fleet check, show, translate and make keys; mistakes leave with 2 and say what to do."""

import json

import pytest

from isochrone.cli.app import run
from isochrone.routing.fleet import node_key

FLEET = """
[gateway]
here = "frankfurt"

[[place]]
name = "cloud"
kind = "bedrock"
location = "eu-central-1"
key_env = "NO_SUCH_KEY"
models = ["amazon.nova-lite-v1:0"]

[[place]]
name = "edge"
kind = "openai"
url = "http://10.0.0.5:8000/v1"
location = "site"
"""


def test_a_fleet_file_is_shown_with_price_quality_and_distance(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    file = tmp_path / "fleet.toml"
    file.write_text(FLEET)
    assert run(["fleet", str(file)]) == 0
    out, err = capsys.readouterr()
    cloud, edge = out.splitlines()[1:]
    assert cloud.split() == ["cloud", "amazon.nova-lite-v1:0", "bedrock", "eu-central-1", "2.5", "ms", "0.06", "0.24",
                             "0.59"]  # fmt: skip
    assert "(asks it)" in edge and "NO_SUCH_KEY, the key of cloud, is not set" in err
    assert run(["fleet", str(file), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts[0]["network_s"]["p50"] == 0.0025 and facts[1]["model"] is None


def test_a_mistake_in_a_fleet_file_leaves_with_its_line(tmp_path, capsys):
    file = tmp_path / "fleet.toml"
    file.write_text(FLEET.replace("eu-central-1", "eu-centrl-1"))
    assert run(["fleet", str(file)]) == 2
    err = capsys.readouterr().err
    assert "fleet.toml, line 8: " in err and "eu-central-1" in err


def test_another_gateways_configuration_is_printed_as_a_fleet(tmp_path, capsys):
    file, fleet = tmp_path / "config.yaml", tmp_path / "fleet.toml"
    file.write_text("model_list:\n- model_name: a\n  litellm_params: {model: gpt-4o-mini, rpm: 3}\n")
    assert run(["import", "litellm", str(file)]) == 0
    out, err = capsys.readouterr()
    assert "Not carried over: a: litellm_params.rpm." in err
    fleet.write_text(out)
    assert run(["fleet", str(fleet)]) == 0


@pytest.mark.parametrize("text", ["a: [", "- a", "model_list: 3"])
def test_what_is_no_configuration_leaves_with_a_way_out(tmp_path, capsys, text):
    file = tmp_path / "config.yaml"
    file.write_text(text)
    assert run(["import", "litellm", str(file)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_a_node_is_told_the_key_that_gateways_will_show(capsys, monkeypatch):
    monkeypatch.setenv("FLEET_TOKEN", "secret of the fleet")
    assert run(["join", "--key", "--token-env", "FLEET_TOKEN", "--name", "box"]) == 0
    assert capsys.readouterr().out.strip() == node_key("secret of the fleet", "box")


@pytest.mark.parametrize("arguments", [["join"], ["join", "http://x", "--token-env", "NOT_SET_HERE"],
                                       ["join", "--token", "t"], ["join", "nowhere", "--token", "t"]])  # fmt: skip
def test_a_node_that_cannot_join_says_what_is_missing(arguments, capsys):
    assert run(arguments) == 2 and capsys.readouterr().err
