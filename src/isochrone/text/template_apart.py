"""A chat template rendered in a process of its own, for those whose time or memory their fuel may not bound."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from isochrone.errors import BadModel, BadRequest

TIMEOUT_S = 5.0
CPU_S = 2
MEMORY_BYTES = 1 << 30


def render_apart(source: str, context: Mapping[str, Any], now: datetime) -> str:
    """As ChatTemplate.render. Raises BadModel when the process had to be ended."""
    try:
        sent = json.dumps({"source": source, "context": context, "now": now.isoformat()})
    except (TypeError, ValueError, RecursionError) as error:
        raise BadRequest(
            f"The messages are no JSON: {error}.", fix="Send texts, numbers, lists and objects.", param="messages"
        ) from error
    command = [sys.executable, "-m", "isochrone.text.template_apart"]
    try:
        done = subprocess.run(command, input=sent, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        answer = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError) as error:
        raise BadModel(
            f"The model's chat template was stopped: it took more than {CPU_S} s or {MEMORY_BYTES >> 20} MiB.",
            fix="Use /v1/completions with a prompt of your own, or another copy of the model.",
        ) from error
    if "text" in answer:
        return str(answer["text"])
    if answer["type"] == "BadRequest":
        raise BadRequest(answer["message"], fix=answer["fix"], param="messages")
    raise BadModel(answer["message"], fix=answer["fix"])


def main() -> None:
    """What the child process does: limit itself, render, and print the text or the error as JSON."""
    import resource

    from .template import ChatTemplate

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    asked = json.load(sys.stdin)
    now = datetime.fromisoformat(asked["now"])
    try:
        context = asked["context"]
        template = ChatTemplate(asked["source"], now=lambda: now, apart=False)
        text = template.render(
            context.pop("messages"), context.pop("tools"), context.pop("add_generation_prompt"), variables=context
        )
        answer = {"text": text}
    except (BadModel, BadRequest) as error:
        answer = {"type": type(error).__name__, "message": error.message, "fix": error.fix}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
