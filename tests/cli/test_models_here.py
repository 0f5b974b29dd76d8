"""pull, models and rm: what is here, where it is, and what goes when it goes.  No network is reached."""

import json

import pytest

from isochrone import paths
from isochrone.cli import app
from isochrone.weights.catalogue import CATALOGUE


@pytest.fixture
def run(capfd, monkeypatch, tmp_path):
    monkeypatch.setenv("ISOCHRONE_HOME", str(tmp_path))

    def run_line(*arguments):
        code = app.run(arguments)
        out, err = capfd.readouterr()
        return code, out, err

    return run_line


@pytest.fixture
def pretend_pulled():
    """A file of the right name and size, which is what counts until its hash is asked for."""

    def make(name):
        entry = CATALOGUE[name]
        path = paths.made(paths.data_dir() / "models" / name) / entry.file
        with open(path, "wb") as file:
            file.truncate(entry.num_bytes)
        return path

    return make


def test_without_models_the_list_says_what_can_be_pulled(run):
    code, out, _ = run("models")
    assert code == 0 and "isochrone pull smollm2-135m" in out


def test_a_pulled_model_is_listed_with_size_licence_and_place(run, pretend_pulled):
    path = pretend_pulled("smollm2-135m")
    code, out, _ = run("models")
    assert code == 0 and "98.4 MB" in out and "Apache-2.0" in out and str(path) in out
    _, out, _ = run("models", "--json")
    assert json.loads(out)["here"][0]["path"] == str(path)


def test_a_removed_model_is_gone_and_the_room_it_took_is_said(run, pretend_pulled):
    path = pretend_pulled("smollm2-135m")
    code, out, _ = run("rm", "smollm2-135m")
    assert code == 0 and "98.4 MB" in out and not path.exists()
    code, _, err = run("rm", "smollm2-135m")
    assert code == 1 and "smollm2-135m" in err


def test_offline_a_missing_model_is_an_error_that_says_how_to_bring_it(run):
    code, _, err = run("pull", "smollm2-135m", "--offline")
    assert code == 1 and "isochrone pull smollm2-135m" in err


def test_a_name_that_is_almost_one_gets_the_right_one(run):
    code, _, err = run("pull", "smollm2-135", "--offline")
    assert code == 1 and "smollm2-135m" in err


def test_the_shell_completes_model_names(monkeypatch, capfd):
    from click.shell_completion import ShellComplete

    complete = ShellComplete(app.app, {}, "isochrone", "_ISOCHRONE_COMPLETE")
    assert [item.value for item in complete.get_completions(["pull"], "smol")] == ["smollm2-135m"]
    assert "--within" in [item.value for item in complete.get_completions(["complete"], "--w")]
