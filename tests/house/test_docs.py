"""The manual says what the code does: printed pages agree, commands parse, links lead somewhere, figures are claims."""

import re
import shlex
import tomllib
from pathlib import Path

import click
import pytest

from docs import build, claims
from isochrone.cli.app import VERBS, app

ROOT = build.ROOT
PAGES = build.prose_pages()
PROSE = [page for page in PAGES if "decisions" not in page.parts and "reference" not in page.parts]
FENCE = re.compile(r"```(?P<kind>\w*)\n(?P<body>.*?)```", re.DOTALL)
FIGURE = re.compile(r"\d[\d,.]*\s?(?:(µs|ms|tokens/s|GB/s|GOP/s|GFLOP/s)\b|(s|kB|MB|GB|x|times) (faster|slower|per)\b)")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def commands_in(page: Path) -> list[str]:
    """Lines of the page's shell blocks, continued lines joined."""
    blocks = [m["body"] for m in FENCE.finditer(page.read_text()) if m["kind"] in ("sh", "console", "bash")]
    joined = "\n".join(blocks).replace("\\\n", " ")
    return [line.removeprefix("$ ").strip() for line in joined.splitlines() if line.strip()]


def words_after_variables(command: str) -> list[str]:
    words = shlex.split(command, comments=True)
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words.pop(0)
    return words


ISOCHRONE_COMMANDS = [
    pytest.param(words_after_variables(command)[1:], id=f"{name_of(page)}: {command}")
    for page in PAGES
    for command in commands_in(page)
    if re.match(r"([A-Z_]+=\S+ )*isochrone ", command)
]


@pytest.mark.parametrize("page", build.pages(), ids=name_of)
def test_a_printed_page_is_what_the_code_prints(page):
    assert page.read_text() == build.pages()[page], "run `make docs`"


def test_the_manual_shows_commands():
    assert len(ISOCHRONE_COMMANDS) > 20


@pytest.mark.parametrize("words", ISOCHRONE_COMMANDS)
def test_a_command_in_the_manual_is_one_that_the_command_line_takes(words):
    if words[0].startswith("-"):
        app.parse_args(click.Context(app, resilient_parsing=True), list(words))
        return
    command = app.get_command(click.Context(app), words[0])
    assert command is not None, f"there is no verb {words[0]}"
    command.make_context(words[0], words[1:], parent=click.Context(app))


def examples_of(name: str) -> list[str]:
    epilog = app.get_command(click.Context(app), name).epilog
    lines = (line.strip() for line in epilog.splitlines() if line.startswith("  "))
    return [line for line in lines if "isochrone" in line and "$(" not in line]


@pytest.mark.parametrize("example", [example for name in VERBS for example in examples_of(name)])
def test_an_example_in_the_help_is_one_that_the_command_line_takes(example):
    words = words_after_variables(re.split(r"[|<>]", example)[0])
    command = app.get_command(click.Context(app), words[1])
    command.make_context(words[1], words[2:], parent=click.Context(app))


def test_a_make_target_in_the_manual_exists():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {target for page in PAGES for target in re.findall(r"(?:^|`)make ([a-z]+)", page.read_text(), re.MULTILINE)}
    assert named <= targets and len(named) > 3


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_relative_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), f"{target} does not exist"


@pytest.mark.parametrize("page", PROSE, ids=name_of)
def test_a_figure_in_the_prose_is_a_claim(page):
    text = re.sub(r"<!-- claim: .*?<!-- /claim -->|```.*?```|`[^`]*`", "", page.read_text(), flags=re.DOTALL)
    found = FIGURE.search(text)
    assert found is None, f"{found and found[0]!r} has no claim: state it in docs/claims.toml"


def test_each_claim_says_how_to_challenge_it():
    for claim in claims.read_claims():
        assert claim.command and claim.machine and re.fullmatch(r"\d{4}-\d\d-\d\d", claim.date)
        assert 0 < claim.tolerance < 1


def test_claims_survive_being_written(tmp_path):
    claim = claims.Claim(
        id="a", what="A “figure”", command="isochrone bench x --json", json_path="a.0.b", machine="m",
        date="2026-01-02", value=0.25, unit="s", tolerance=0.1, bound="at_most",
    )  # fmt: skip
    claims.write_claims((claim,), tmp_path / "claims.toml")
    assert claims.read_claims(tmp_path / "claims.toml") == (claim,)
    assert claim.holds_with(0.1) and claim.holds_with(0.27) and not claim.holds_with(0.28)
    assert claims.value_at({"a": [{"b": 0.3}]}, claim.json_path) == 0.3


def test_a_figure_is_rendered_from_its_claim_and_an_unknown_one_is_refused():
    claim = claims.Claim("a", "w", "c", "p", "m", "2026-01-02", 12.5, "ms", 0.1)
    marked = "takes <!-- claim: a -->?<!-- /claim -->."
    text = build.with_figures(marked, {"a": claim}, Path("page"))
    assert text == "takes <!-- claim: a -->12.5 ms<!-- /claim -->."
    assert build.with_figures(text, {"a": claim}, Path("page")) == text
    with pytest.raises(SystemExit, match="page"):
        build.with_figures(marked, {}, Path("page"))


def test_each_dependency_is_argued_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    named = {re.match(r"[a-z0-9-]+", line)[0] for lines in lists for line in lines} - {"isochrone"}
    argued = set(re.findall(r"^\| `([a-z0-9-]+)` \|", (ROOT / "docs/dependencies.md").read_text(), re.MULTILINE))
    assert named == argued


def test_each_variable_that_the_code_reads_is_in_the_reference():
    sources = " ".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    read = set(re.findall(r"[\"'](ISOCHRONE_[A-Z_]+[A-Z])[\"']", sources))
    reference = (ROOT / "docs/reference/settings.md").read_text()
    assert {name for name in read if f"`{name}`" not in reference} == set()
