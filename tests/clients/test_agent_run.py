"""An agent's run with a deadline over a fleet of which a node dies under way: steps, a share for each, in time."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from typing import Any

import httpx
from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    Runner,
    ToolsToFinalOutputResult,
    function_tool,
    set_tracing_disabled,
)
from openai import AsyncOpenAI

from isochrone.testing.demo import LocalFleet
from isochrone.testing.demo.fleet import MODEL
from isochrone.units import parse_duration
from tests.clients.weather import City

TASK_S, NUM_STEPS = 60.0, 4
RUN = f"trip-1, workflow=weather, total={TASK_S:.0f}s, cost=0.05usd"
LEFT = re.compile(r"steps=(\d+), total=([\d.]+(?:ms|s|min)?)")


def test_a_run_ends_inside_its_deadline_while_a_node_dies(tmp_path: Path) -> None:
    steps: list[dict[str, Any]] = []

    async def seen(response: httpx.Response) -> None:
        steps.append({name: response.headers.get(name, "") for name in ("isochrone-place", "isochrone-run-left")})

    async def go() -> tuple[Any, float]:
        set_tracing_disabled(True)
        async with LocalFleet(tmp_path) as fleet:

            @function_tool
            async def forecast(city: City) -> str:
                """Tell the weather of a city."""
                if len(steps) == 1:
                    await fleet.nodes[steps[0]["isochrone-place"]].child.kill()
                return f"Sunny in {city}."

            def until_done(context: Any, results: Any) -> ToolsToFinalOutputResult:
                return ToolsToFinalOutputResult(len(steps) >= NUM_STEPS, results[0].output)

            http = httpx.AsyncClient(event_hooks={"response": [seen]}, timeout=TASK_S)
            async with AsyncOpenAI(
                base_url=f"{fleet.url}/v1", api_key="none", max_retries=0, http_client=http,
                default_headers={"Isochrone-Run": RUN},
            ) as client:  # fmt: skip
                agent: Any = Agent(
                    name="Station", instructions="Tell the weather with the tool.", tools=[forecast],
                    tool_use_behavior=until_done, reset_tool_choice=False,
                    model=OpenAIChatCompletionsModel(model=MODEL, openai_client=client),
                    model_settings=ModelSettings(
                        tool_choice="required", parallel_tool_calls=False, max_tokens=60, temperature=0
                    ),
                )  # fmt: skip
                began_at = time.monotonic()
                done = await Runner.run(agent, "What is the weather in Oslo, Rome and Cairo?", max_turns=NUM_STEPS + 1)
                return done.final_output, time.monotonic() - began_at

    final, took_s = asyncio.run(go())
    assert final and took_s < TASK_S
    assert len(steps) == NUM_STEPS
    left = [LEFT.search(step["isochrone-run-left"]) for step in steps]
    assert all(left), steps
    assert [int(one[1]) for one in left if one] == list(range(1, len(steps) + 1))
    rest_s = [parse_duration(one[2]) for one in left if one]
    assert rest_s == sorted(rest_s, reverse=True) and TASK_S > rest_s[0] and rest_s[-1] > 0
    places = [step["isochrone-place"] for step in steps]
    assert places[0] != places[1], "the one that answered first was dead by then"
    print(f"steps {len(steps)} at {places}, left {rest_s}, took {took_s:.1f} s of {TASK_S:.0f} s")
