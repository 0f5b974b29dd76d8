"""Frameworks that stand on those SDKs: openai-agents, pydantic-ai, LangChain, LiteLLM."""

from __future__ import annotations

import asyncio
from typing import Any

import litellm
import pytest
from agents import Agent as OpenAIAgent
from agents import ModelSettings, OpenAIChatCompletionsModel, OpenAIResponsesModel, Runner, function_tool
from agents import set_tracing_disabled as set_openai_tracing_disabled
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool as langchain_tool
from langchain_openai import ChatOpenAI
from openai import AsyncOpenAI
from pydantic import SecretStr
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.models.openai import OpenAIResponsesModel as PydanticResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

from tests.clients.conftest import NAME
from tests.clients.weather import CITIES, QUESTION, City, Forecast


@pytest.mark.parametrize("kind", [OpenAIResponsesModel, OpenAIChatCompletionsModel])
def test_openai_agents_calls_a_tool_and_ends(url: str, kind: Any) -> None:
    asked: list[str] = []

    @function_tool
    def forecast(city: City) -> str:
        """Tell the weather of a city."""
        asked.append(city)
        return f"Sunny in {city}."

    async def run() -> Any:
        set_openai_tracing_disabled(True)
        async with AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
            agent: Any = OpenAIAgent(
                name="Station", instructions="Tell the weather with the tool.", tools=[forecast],
                model=kind(model=NAME, openai_client=client), tool_use_behavior="stop_on_first_tool",
                model_settings=ModelSettings(
                    tool_choice="required", parallel_tool_calls=False, max_tokens=60, temperature=0
                ),
            )  # fmt: skip
            whole = await Runner.run(agent, QUESTION, max_turns=3)
            streamed = Runner.run_streamed(agent, QUESTION, max_turns=3)
            async for _ in streamed.stream_events():
                pass
            return whole.final_output, streamed.final_output

    whole, streamed = asyncio.run(run())
    assert len(asked) == 2 and set(asked) <= set(CITIES)
    assert [whole, streamed] == [f"Sunny in {city}." for city in asked]


@pytest.mark.parametrize("kind", [OpenAIChatModel, PydanticResponsesModel])
def test_pydantic_ai_gets_an_object_of_its_type(url: str, kind: Any) -> None:
    provider = OpenAIProvider(base_url=f"{url}/v1", api_key="none")
    agent = Agent(kind(NAME, provider=provider), output_type=Forecast)
    settings: Any = {"max_tokens": 80, "temperature": 0, "parallel_tool_calls": False}
    assert isinstance(agent.run_sync(QUESTION, model_settings=settings).output, Forecast)


def test_langchain_talks_streams_calls_tools_and_structures(url: str) -> None:
    chat = ChatOpenAI(base_url=f"{url}/v1", api_key=SecretStr("none"), model=NAME, temperature=0, max_retries=0,
                      max_completion_tokens=80)  # fmt: skip
    whole = chat.invoke(QUESTION).content
    assert "".join(str(chunk.content) for chunk in chat.stream(QUESTION)) == whole

    @langchain_tool
    def forecast(city: City) -> str:
        """Tell the weather of a city."""
        return f"Sunny in {city}."

    bound = chat.bind_tools([forecast], tool_choice="any", parallel_tool_calls=False)
    called = bound.invoke(QUESTION)
    (call,) = called.tool_calls  # type: ignore[attr-defined]
    assert call["args"]["city"] in CITIES
    result = ToolMessage(forecast.invoke(call["args"]), tool_call_id=call["id"])
    assert chat.invoke([HumanMessage(QUESTION), called, result]).content
    for method in ("json_schema", "function_calling"):
        assert isinstance(chat.with_structured_output(Forecast, method=method).invoke(QUESTION), Forecast)


@pytest.mark.parametrize(("model", "path"), [("openai", "/v1"), ("anthropic", ""), ("ollama_chat", "")])
def test_litellm_speaks_every_dialect(url: str, model: str, path: str) -> None:
    options: Any = {
        "model": f"{model}/{NAME}", "api_base": url + path, "api_key": "none", "max_tokens": 16, "temperature": 0,
        "messages": [{"role": "user", "content": QUESTION}], "num_retries": 0,
    }  # fmt: skip
    whole = litellm.completion(**options).choices[0].message.content
    parts = [chunk.choices[0].delta.content or "" for chunk in litellm.completion(**options, stream=True)]
    assert whole and "".join(parts) == whole
