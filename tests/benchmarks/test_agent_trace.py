"""The agent's task: it grows as an agent's does, is the same for all, and runs against real servers."""

import ast
import itertools
import json

import jsonschema
import pytest
from click.testing import CliRunner

from benchmarks.agent_tasks import PATH, TOOLS, make_task, read_functions
from benchmarks.agent_trace import Done, Run, failures_of, main
from isochrone.weights import here


@pytest.fixture
def functions(tmp_path):
    return read_functions(tmp_path)  # no larger data there: the ten functions that lie here


def test_a_task_is_twenty_calls_of_which_each_holds_all_that_was_said_before(functions):
    task = make_task(functions, seed=3)
    assert [call.kind for call in task] == ["edit"] * 10 + ["action"] * 10
    for kind in ("edit", "action"):
        calls = [call for call in task if call.kind == kind]
        for sooner, later in itertools.pairwise(calls):
            assert later.messages[: len(sooner.messages)] == sooner.messages
            assert later.messages[len(sooner.messages)]["role"] == "assistant"


def test_equal_seeds_give_equal_tasks_and_others_other_files(functions):
    first, again, other = make_task(functions, 1), make_task(functions, 1), make_task(functions, 2)
    assert first == again
    assert first[0].messages[1] != other[0].messages[1]


def test_the_recorded_edits_are_functions_without_the_old_name(functions):
    last = make_task(functions, 4)[9].messages
    for wish, answer in zip(last[1:-1:2], last[2::2], strict=True):
        _, old, _, new, *_ = wish["content"].rpartition("Rename ")[2].split("`")
        source = answer["content"].removeprefix("```python\n").removesuffix("```")
        names = {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
        names |= {node.arg for node in ast.walk(ast.parse(source)) if isinstance(node, ast.arg)}
        assert new in names and old not in names


def test_the_recorded_calls_name_tools_and_hold_what_these_require(functions):
    parameters = {tool["function"]["name"]: tool["function"]["parameters"] for tool in TOOLS}
    called = [call for message in make_task(functions, 5)[-1].messages for call in message.get("tool_calls", ())]
    assert len(called) == 9
    for call in called:
        given = json.loads(call["function"]["arguments"])
        assert given["path"] == PATH
        assert list(given) == parameters[call["function"]["name"]]["required"]


def test_without_tools_the_same_is_said_in_words_and_every_recorded_call_fits_the_schema(functions):
    last = make_task(functions, 5)[-1]
    body = last.body_without_tools()
    assert "tools" not in body and len(body["messages"]) == len(last.messages)
    assert all(tool["function"]["name"] in body["messages"][0]["content"] for tool in TOOLS)
    schema = body["response_format"]["json_schema"]["schema"]
    answers = [message["content"] for message in body["messages"] if message["role"] == "assistant"]
    assert len(answers) == 9
    for answer in answers:
        jsonschema.validate(json.loads(answer), schema)


def run_of(server, seconds, text="same"):
    return Run(server, 1, [Done("edit", seconds, text, 100, 90, 10, 0, 4, 2)])


def test_a_changed_text_and_a_missed_aim_are_failures():
    mine, theirs = run_of("Isochrone", 1.0), run_of("llama-server", 3.0)
    assert failures_of([mine, run_of("Isochrone, drafts off", 2.0), theirs]) == []
    (changed,) = failures_of([mine, run_of("Isochrone, drafts off", 2.0, "other")])
    assert changed == "Isochrone, drafts off: the text of calls [0] is another"
    theirs = [run_of("llama-server", 9.0), run_of("llama-server, n-grams", 2.9)]
    assert failures_of([mine, *theirs]) == ["2.90x llama-server's tasks a minute, below 3.0x"]


@pytest.mark.model
def test_every_setting_gives_the_same_text_and_each_switch_does_what_it_says(tmp_path, monkeypatch):
    if here.find("smollm2-135m") is None:
        pytest.skip("the model is missing: isochrone pull smollm2-135m")
    monkeypatch.delenv("ISOCHRONE_DATA", raising=False)
    result = CliRunner().invoke(main, ["--quick", "--json", str(tmp_path / "report.json")], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["failures"] == []
    totals = {
        run["server"]: {name: sum(call[name] for call in run["calls"]) for name in ("num_cached", "num_forced")}
        for run in report["runs"]
    }
    assert totals["Isochrone"]["num_cached"] > 0 and totals["Isochrone, reuses off"]["num_cached"] == 0
    assert totals["Isochrone"]["num_forced"] > 0 and totals["Isochrone, forces off"]["num_forced"] == 0
    assert all(call["num_drafted"] == 0 for run in report["runs"] if "drafts" in run["server"] for call in run["calls"])
