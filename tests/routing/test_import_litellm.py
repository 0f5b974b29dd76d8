"""A configuration of LiteLLM's proxy becomes a fleet file that is valid, and what is lost is told."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from isochrone.errors import BadConfig
from isochrone.places import located
from isochrone.places.place import Price
from isochrone.routing.fleet import parse_fleet
from isochrone.routing.fleet.litellm import CLOUDS, HOSTS, translate

CONFIG = """
model_list:
  - model_name: assistant
    litellm_params:
      model: openai/gpt-4o-mini
      api_key: os.environ/MY_KEY
      rpm: 60
  - model_name: assistant
    litellm_params:
      model: hosted_vllm/qwen3-8b
      api_base: http://10.0.0.5:8000/v1
      max_parallel_requests: 8
      input_cost_per_token: 0.0000001
      output_cost_per_token: 0.0000002
  - model_name: claude
    litellm_params:
      model: bedrock/converse/eu.anthropic.claude-haiku-4-5-20251001-v1:0
      aws_region_name: eu-central-1
  - model_name: flash
    litellm_params: {model: vertex_ai/gemini-2.5-flash, vertex_project: shop, vertex_location: europe-west4}
  - model_name: lite
    litellm_params: {model: gemini/gemini-2.5-flash-lite, api_key: AIza-written-out}
  - model_name: here
    litellm_params: {model: ollama/qwen2.5:3b}
  - model_name: far
    litellm_params: {model: azure/gpt-4o, api_base: "https://x.openai.azure.com"}
  - model_name: all
    litellm_params: {model: openai/*}
litellm_settings: {request_timeout: 45, drop_params: true, fallbacks: [{assistant: [claude, far]}]}
router_settings: {routing_strategy: latency-based-routing, model_group_alias: {gpt-4: assistant}}
general_settings: {master_key: sk-master}
"""


def fleet_of(found, tmp_path):
    return parse_fleet(tmp_path, located.parse(found.text, "fleet.toml"))


def test_places_models_and_routes_are_carried_over(tmp_path):
    fleet = fleet_of(translate(yaml.safe_load(CONFIG)), tmp_path)
    places = {spec.name: spec for spec in fleet.places}
    assert places["openai"].key_env == "MY_KEY" and places["openai"].location == "global"
    assert (places["hosted-vllm"].location, places["hosted-vllm"].max_in_flight) == ("site", 8)
    assert places["hosted-vllm"].models[0].price == Price(pytest.approx(0.1), pytest.approx(0.2))
    assert places["bedrock-eu-central-1"].models[0].quality == 0.8
    assert places["vertex-ai-europe-west4"].options == {"project": "shop"}
    assert places["gemini"].key_env == "GEMINI_API_KEY"
    assert (places["ollama"].url, places["ollama"].location) == ("http://127.0.0.1:11434/v1", "local")
    claude = ("bedrock-eu-central-1", "eu.anthropic.claude-haiku-4-5-20251001-v1:0")
    assert fleet.routes["assistant"] == (("openai", "gpt-4o-mini"), ("hosted-vllm", "qwen3-8b"), claude)
    assert fleet.routes["gpt-4"] == fleet.routes["assistant"][:3] and fleet.routes["claude"] == (claude,)
    assert fleet.policy.budget.total_s == 45.0


def test_what_has_no_counterpart_is_told_and_no_secret_is_repeated():
    found = translate(yaml.safe_load(CONFIG))
    told = "\n".join(found.left_out)
    for word in ("rpm", "azure", "openai/*", "drop_params", "routing_strategy", "isochrone keys add", "order of the",
                 "written out", "assistant to far"):  # fmt: skip
        assert word in told, word
    assert "AIza" not in found.text + told and "sk-master" not in found.text + told


@pytest.mark.parametrize("config", [{}, {"model_list": []}, {"model_list": "x"}, {"model_list": [{"model_name": "a"}]}])
def test_what_holds_no_model_is_refused_with_a_way_out(config):
    with pytest.raises(BadConfig) as caught:
        translate(config)
    assert caught.value.fix


WORDS = st.text("abc-/.:*\"'\\ é\n", max_size=8)
MODELS = st.builds("{}/{}".format, st.sampled_from([*HOSTS, *CLOUDS, "azure", "nobody"]), WORDS.filter(bool))
PARAMS = st.fixed_dictionaries(
    {"model": MODELS | WORDS},
    optional={
        "api_base": st.sampled_from(["http://10.0.0.1:1/v1", "https://models.example.com", "nonsense"]),
        "api_key": st.sampled_from(["os.environ/A_KEY", "written-out"]),
        "max_parallel_requests": st.integers(1, 9),
        "input_cost_per_token": st.floats(0, 1e-4), "output_cost_per_token": st.floats(0, 1e-4),
    },
)  # fmt: skip
ENTRIES = st.lists(st.fixed_dictionaries({"model_name": WORDS.filter(bool), "litellm_params": PARAMS}), min_size=1)


@given(ENTRIES)
def test_whatever_is_carried_over_is_a_valid_fleet_and_the_rest_is_told(tmp_path_factory, entries):
    try:
        found = translate({"model_list": entries})
    except BadConfig as error:
        assert error.fix
        return
    fleet = fleet_of(found, tmp_path_factory.getbasetemp())
    assert fleet.places and fleet.routes
    carried = {model.id for spec in fleet.places for model in spec.models}
    assert carried and len(carried) <= len(entries)
