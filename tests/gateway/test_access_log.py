"""Each answered request leaves one line in the log, with documented fields and without a word of its prompt."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.fleeting import fleet_text, gateway_over
from tests.gateway.upstreams import refused, running, streamed, words

pytest.importorskip("aiohttp")
PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "http.md").read_text()
CANARY = "a canary that nobody may read"


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.done: list[dict[str, Any]] = []
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        facts = getattr(record, "facts", {})
        self.text += f"{record.getMessage()} {facts}\n"
        if record.getMessage() == "request.done":
            self.done.append(facts)


async def test_a_request_is_one_line_with_documented_fields_and_without_its_prompt(tmp_path: Path) -> None:
    lines, logger = Lines(), logging.getLogger("isochrone.gateway")
    logger.addHandler(lines)
    level = logger.level
    body = {"model": "m", "messages": [{"role": "user", "content": CANARY}], "stream": True}
    try:
        async with running(streamed(words("Hel", "lo"))) as good, running(refused(400, "no")) as bad:
            ports = {"good": good.port}
            async with gateway_over(tmp_path, fleet_text(ports) + fleet_text({"bad": bad.port}, model="b")) as gateway:
                logger.setLevel(logging.DEBUG)
                for model in ("m", "b"):
                    sent = json.dumps(body | {"model": model}).encode()
                    await gateway.send("/v1/chat/completions", sent, {"x-request-id": f"line-{model}"})
    finally:
        logger.removeHandler(lines)
        logger.setLevel(level)
    answered, turned_away = lines.done
    assert answered["request"] == "line-m" and answered["status"] == 200 and answered["place"] == "good"
    assert (answered["prompt_tokens"], answered["answer_tokens"], answered["attempts"]) == (7, 2, 1)
    assert turned_away["request"] == "line-b" and turned_away["answer_tokens"] == 0
    table = PAGE[PAGE.index("| Field of `request.done` |") :]
    assert all(f"`{name}`" in table for facts in lines.done for name in facts)
    assert CANARY not in lines.text
