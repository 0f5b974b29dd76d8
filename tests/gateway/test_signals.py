"""SIGTERM lets what runs finish; a second one stops.  A real process, since signals are a process' affair."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from openai import OpenAI

BODY = json.dumps({"model": "tiny", "prompt": "The quick", "max_tokens": 30, "stream": True})
WaitFor = Callable[[Callable[[], bool]], None]


class Process:
    def __init__(self, tokenizer: Path) -> None:
        command = [sys.executable, "-m", "tests.gateway.serve_scripted", str(tokenizer)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip().removeprefix("http://")

    def status(self, path: str, body: str | None = None) -> int:
        connection = http.client.HTTPConnection(self.address, timeout=10)
        try:
            connection.request("POST" if body else "GET", path, body)
            return connection.getresponse().status
        finally:
            connection.close()

    def gauge(self, name: str) -> str:
        connection = http.client.HTTPConnection(self.address, timeout=10)
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
        connection.close()
        return next(line.split()[1] for line in lines if line.startswith(f"{name} "))

    def end(self) -> tuple[int, list[dict[str, object]]]:
        """(exit code, log lines)"""
        _, log = self.process.communicate(timeout=20)
        return self.process.returncode, [json.loads(line) for line in log.splitlines()]


@pytest.fixture
def process(tokenizer_directory: Path) -> Iterator[Process]:
    process = Process(tokenizer_directory)
    yield process
    process.process.kill()
    process.process.communicate()


def ask(process: Process, answers: list[bytes]) -> threading.Thread:
    def run() -> None:
        connection = http.client.HTTPConnection(process.address, timeout=10)
        connection.request("POST", "/v1/completions", BODY)
        answers.append(connection.getresponse().read())
        connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_the_first_sigterm_drains(process: Process, wait_for: WaitFor) -> None:
    wait_for(lambda: process.status("/ready") == 200)
    answers: list[bytes] = []
    thread = ask(process, answers)
    wait_for(lambda: process.gauge("isochrone_requests_in_flight") == "1")
    process.process.send_signal(signal.SIGTERM)
    wait_for(lambda: process.status("/ready") == 503)
    assert process.status("/health") == 200
    assert process.status("/v1/completions", BODY) == 503
    process.process.send_signal(signal.SIGUSR1)
    thread.join(10)
    assert answers[0].endswith(b"data: [DONE]\n\n") and answers[0].count(b'"text"') >= 30
    code, log = process.end()
    assert code == 0
    events = [line["event"] for line in log]
    assert sorted(events) == ["gateway.draining", "gateway.listening", "gateway.ready", "gateway.stopped"]


def test_the_second_sigterm_stops_with_a_typed_error_for_who_waits(process: Process, wait_for: WaitFor) -> None:
    wait_for(lambda: process.status("/ready") == 200)
    answers: list[bytes] = []
    thread = ask(process, answers)
    wait_for(lambda: process.gauge("isochrone_requests_in_flight") == "1")
    process.process.send_signal(signal.SIGTERM)
    wait_for(lambda: process.status("/ready") == 503)
    process.process.send_signal(signal.SIGTERM)
    thread.join(10)
    assert json.loads(answers[0])["error"]["code"] == "unreachable"
    assert process.end()[0] == 0


def test_an_idle_server_stops_at_the_first_sigint(process: Process, wait_for: WaitFor) -> None:
    client = OpenAI(base_url=f"http://{process.address}/v1", api_key="none")
    assert client.models.list().data[0].id == "tiny"  # its connection is kept open, and idle
    process.process.send_signal(signal.SIGINT)
    assert process.end()[0] == 0
