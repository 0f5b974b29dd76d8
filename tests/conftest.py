"""The suite's own promises: which instruction sets ran is said aloud, and under CI nothing is skipped quietly."""

from __future__ import annotations

import os
import re
from collections import Counter

import pytest

IN_CI = os.environ.get("CI") == "true"
ALLOWED_SKIP = re.compile(r"this (CPU|processor|machine) (has no|lacks|cannot run) ")
"""The one reason to skip under CI: an instruction set that this CPU does not have."""

_tested: Counter[str] = Counter()
_skipped_files: list[str] = []


def _targets_of(item: pytest.Item) -> list[str]:
    """Names of the instruction sets that a test's parameters select."""
    from isochrone.compiler.isa import TARGETS

    callspec = getattr(item, "callspec", None)
    values = callspec.params.values() if callspec else ()
    names = (getattr(value, "name", value) for value in values)
    return [name for name in names if isinstance(name, str) and name in TARGETS]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    report = yield
    if IN_CI and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not ALLOWED_SKIP.search(reason):
            report.outcome = "failed"
            report.longrepr = f"{item.nodeid} was skipped under CI, where an input may not be missing: {reason}"
    if report.when == "call" and report.passed:
        _tested.update(_targets_of(item))
    return report


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.skipped:
        _skipped_files.append(report.nodeid)


def _has_but_untested() -> list[str]:
    from isochrone.compiler.isa import available_targets

    return [target.name for target in available_targets() if not _tested[target.name]]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _tested and not IN_CI:
        return
    counts = ", ".join(f"{name} ({number} tests)" for name, number in _tested.items())
    terminalreporter.write_line(f"instruction sets tested: {counts or 'none'}")
    if IN_CI and _skipped_files:
        terminalreporter.write_line(f"files skipped, which fails under CI: {', '.join(_skipped_files)}")
    terminalreporter.write_line(f"instruction sets of this CPU not tested: {', '.join(_has_but_untested()) or 'none'}")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    is_whole_suite = not session.config.args or session.config.args == session.config.getini("testpaths")
    if not IN_CI or exitstatus != pytest.ExitCode.OK:
        return
    if _skipped_files or (is_whole_suite and _has_but_untested()):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
