"""The command line: verbs found, errors as sentences, exit codes kept, nothing imported that is not needed."""

import json
import subprocess
import sys

import pytest

from isochrone import platforms
from isochrone.cli import app
from isochrone.errors import NotFound, Unsupported


@pytest.fixture
def run(capfd, monkeypatch, tmp_path):
    """Run one command line in this process: exit code, stdout, stderr."""
    monkeypatch.setenv("ISOCHRONE_HOME", str(tmp_path))

    def run_line(*arguments: str) -> tuple[int, str, str]:
        code = app.run(arguments)
        out, err = capfd.readouterr()
        return code, out, err

    return run_line


def test_help_lists_every_verb_with_a_sentence(run):
    code, out, _ = run("--help")
    assert code == 0
    for verb in app.VERBS:
        assert f"  {verb} " in out
    assert "Examples:" in out and "Exit codes" in out


@pytest.mark.parametrize("verb", app.VERBS)
def test_each_verb_has_examples_json_and_debug(run, verb):
    code, out, _ = run(verb, "--help")
    assert code == 0
    for part in ("Examples:", f"isochrone {verb}", "--json", "--debug"):
        assert part in out


def test_version_is_one_line(run):
    code, out, _ = run("--version")
    assert code == 0 and out.startswith("isochrone ") and out.count("\n") == 1


def test_json_is_json(run):
    code, out, _ = run("version", "--json")
    assert code == 0 and "isochrone" in json.loads(out)


def test_config_shows_value_and_origin(run, monkeypatch):
    monkeypatch.setenv("ISOCHRONE_PORT", "9000")
    _, out, _ = run("config", "port", "--json")
    assert json.loads(out)["port"]["value"] == "9000"
    assert json.loads(out)["port"]["origin"] == "environment ISOCHRONE_PORT"
    _, out, _ = run("config")
    assert "environment ISOCHRONE_PORT" in out and "default" in out


@pytest.mark.parametrize(
    "line", [("upp",), ("up",), ("config", "--nonsense"), ("config", "prot"), ("completion", "tcsh")]
)
def test_misuse_exits_2_and_says_what_was_meant(run, line):
    code, out, err = run(*line)
    assert code == 2 and out == "" and err
    assert "Traceback" not in err


def test_a_misspelt_verb_names_the_nearest(run):
    _, _, err = run("chatt")
    assert "isochrone chat" in err


def test_a_bad_variable_is_misuse_and_names_the_nearest(run, monkeypatch):
    monkeypatch.setenv("ISOCHRONE_THREAD", "2")
    code, _, err = run("config")
    assert code == 2 and "ISOCHRONE_THREADS" in err


def test_a_failure_is_a_sentence_and_a_way_out(run, monkeypatch):
    fail_with(monkeypatch, NotFound("There is no model x.", fix="Pull it."))
    code, out, err = run("version")
    assert (code, out, err) == (1, "", "There is no model x.\n  Pull it.\n")


def test_a_failure_with_json_is_json_too(run, monkeypatch):
    fail_with(monkeypatch, NotFound("There is no model x.", fix="Pull it."))
    code, out, _ = run("version", "--json")
    assert code == 1
    assert json.loads(out)["error"] == {"code": "not_found", "message": "There is no model x.", "fix": "Pull it."}


def test_a_mistake_of_ours_says_so_without_a_traceback(run, monkeypatch):
    fail_with(monkeypatch, ZeroDivisionError("oops"))
    code, _, err = run("version")
    assert code == 1 and "mistake of ours" in err and "--debug" in err and "Traceback" not in err


def test_debug_shows_the_traceback(monkeypatch):
    fail_with(monkeypatch, ZeroDivisionError("oops"))
    with pytest.raises(ZeroDivisionError):
        app.run(["version", "--debug"])


def fail_with(monkeypatch, error):
    def fail(*args, **kwargs):
        raise error

    from isochrone.cli import version

    monkeypatch.setattr(version.command, "callback", fail)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_name_the_program(run, shell):
    code, out, _ = run("completion", shell)
    assert code == 0 and "isochrone" in out and "_ISOCHRONE_COMPLETE" in out


HEAVY = (
    "numpy", "llvmlite", "torch", "asyncio", "uvicorn", "pydantic", "rich", "typer", "huggingface_hub", "tokenizers",
)  # fmt: skip


@pytest.mark.parametrize("line", [["--help"], ["--version"], ["config"], ["up", "--help"], ["complete", "--help"]])
def test_help_imports_nothing_heavy(line):
    script = (
        "import sys; from isochrone.cli.app import run; run(sys.argv[1:]); "
        f"found = [name for name in {HEAVY!r} if name in sys.modules]; sys.exit(f'imported {{found}}' if found else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script, *line], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("system", "machine", "libc", "word"),
    [
        ("darwin", "arm64", "", "darwin"), ("win32", "AMD64", "", "win32"),
        ("linux", "aarch64", "glibc 2.39", "aarch64"), ("linux", "x86_64", "", "another C library"),
        ("linux", "x86_64", "glibc 2.17", "glibc 2.17"),
    ],
)  # fmt: skip
def test_elsewhere_a_sentence_says_where_it_runs(system, machine, libc, word):
    with pytest.raises(Unsupported, match=word) as caught:
        platforms.judge(system, machine, libc)
    assert platforms.SUPPORTED in caught.value.message and caught.value.fix


@pytest.mark.parametrize("libc", ["glibc 2.28", "glibc 2.36", "glibc 3.0"])
def test_linux_on_x86_64_with_glibc_is_supported(libc):
    platforms.judge("linux", "x86_64", libc)
