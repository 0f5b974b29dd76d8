"""The test cloud is Amazon Bedrock as far as boto3 can tell: what it reads is what was played."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from botocore.exceptions import ClientError, EventStreamError, ResponseStreamingError
from urllib3.exceptions import ProtocolError

from isochrone.testing.clouds import Answer, Block, Call, Count, Fault, Script, serving
from isochrone.testing.clouds.bedrock import BedrockCloud
from isochrone.testing.clouds.bedrock_wire import REFUSALS
from tests.testing.clouds.bedrock_boto import MODEL, REGION, asked, clear, converser

TOOLS = {"tools": [{"toolSpec": {"name": "weather", "inputSchema": {"json": {"type": "object"}}}}]}


@pytest.fixture
def cloud():
    with serving(BedrockCloud(region=REGION)) as cloud:
        yield cloud


def test_boto3_reads_an_answer_in_one_piece(cloud):
    cloud.script = Script(default=Answer("You said {prompt}.", thought="Let me see.", count=Count(100, 7, 60, 30, 3)))
    answer = converser(cloud).converse(**asked("hi"))
    content = answer["output"]["message"]["content"]
    assert content[0]["reasoningContent"]["reasoningText"]["text"] == "Let me see."
    assert content[1] == {"text": "You said hi."}
    assert answer["stopReason"] == "end_turn"
    usage = answer["usage"]
    assert (usage["inputTokens"], usage["cacheReadInputTokens"], usage["cacheWriteInputTokens"]) == (10, 60, 30)
    assert (usage["outputTokens"], usage["totalTokens"]) == (10, 110)


def test_boto3_reads_a_stream(cloud):
    cloud.script = Script(default=Answer("one two three", thought="hm hm", count=Count(5, 3, num_thought=2)))
    stream = converser(cloud).converse_stream(
        **asked(), performanceConfig={"latency": "optimized"}, serviceTier={"type": "priority"}
    )["stream"]
    events = list(stream)
    assert events[0] == {"messageStart": {"role": "assistant"}}
    deltas = [event["contentBlockDelta"] for event in events if "contentBlockDelta" in event]
    assert [d["delta"]["text"] for d in deltas if d["contentBlockIndex"] == 1] == ["one ", "two ", "three"]
    assert [d["delta"]["reasoningContent"] for d in deltas if d["contentBlockIndex"] == 0][:2] == [
        {"text": "hm "}, {"text": "hm"},
    ]  # fmt: skip
    assert events[-2] == {"messageStop": {"stopReason": "end_turn"}}
    assert events[-1]["metadata"]["usage"]["totalTokens"] == 10
    assert events[-1]["metadata"]["performanceConfig"] == {"latency": "optimized"}
    assert events[-1]["metadata"]["serviceTier"] == {"type": "priority"}


def test_boto3_reads_calls_and_answers_them(cloud):
    called = Answer("Let me look.", calls=(Call("weather", {"city": "Bern"}, "t1"), Call("weather", {}, "t2")))
    cloud.script = Script(plays=(called, Answer("It rains.")))
    client = converser(cloud)
    events = list(client.converse_stream(**asked("weather?"), toolConfig=TOOLS)["stream"])
    starts = [event["contentBlockStart"] for event in events if "contentBlockStart" in event]
    assert [start["start"]["toolUse"]["toolUseId"] for start in starts] == ["t1", "t2"]
    inputs = [e["contentBlockDelta"]["delta"] for e in events if "contentBlockDelta" in e]
    assert json.loads("".join(d["toolUse"]["input"] for d in inputs if "toolUse" in d)) == {"city": "Bern"}
    assert {"messageStop": {"stopReason": "tool_use"}} in events

    def use(id, city):
        return {"toolUse": {"toolUseId": id, "name": "weather", "input": city}}

    turns = [
        *asked("weather?")["messages"],
        {"role": "assistant", "content": [use("t1", {"city": "Bern"}), use("t2", {})]},
        {"role": "user", "content": [
            {"toolResult": {"toolUseId": id, "content": [{"text": "rain"}]}} for id in ("t1", "t2")
        ]},
    ]  # fmt: skip
    answer = client.converse(modelId=MODEL, messages=turns, toolConfig=TOOLS)
    assert answer["output"]["message"]["content"] == [{"text": "It rains."}]


@pytest.mark.parametrize("kind", sorted(REFUSALS))
def test_boto3_knows_every_refusal_by_its_name(cloud, kind):
    cloud.script = Script(default=Fault(kind))
    status, name, said = REFUSALS[kind]
    client = converser(cloud)
    for call in (client.converse, client.converse_stream):
        with pytest.raises(ClientError) as refused:
            call(**asked())
        error = refused.value.response
        assert (error["Error"]["Code"], error["Error"]["Message"]) == (name, said)
        assert error["ResponseMetadata"]["HTTPStatusCode"] == status
        assert kind == "unauthenticated" or isinstance(refused.value, getattr(client.exceptions, name))


@pytest.mark.parametrize(
    ("kind", "name"),
    [("throttled", "throttlingException"), ("unavailable", "serviceUnavailableException"),
     ("internal", "internalServerException"), ("timeout", "modelStreamErrorException"),
     ("invalid", "validationException")],
)  # fmt: skip
def test_boto3_meets_an_exception_within_a_stream(cloud, kind, name):
    cloud.script = Script(default=Answer("one two three", fault_after=2, fault=Fault(kind)))
    said = []
    with pytest.raises(EventStreamError) as broken:
        for event in converser(cloud).converse_stream(**asked())["stream"]:
            said += [event["contentBlockDelta"]["delta"]["text"]] if "contentBlockDelta" in event else []
    assert said == ["one ", "two "]
    assert broken.value.response["Error"]["Code"] == name


def test_boto3_waits_out_a_throttle(cloud):
    cloud.script = Script(plays=(Fault("throttled"), Fault("unavailable"), Answer("at last")))
    answer = converser(cloud, attempts=3).converse(**asked())
    assert answer["output"]["message"]["content"] == [{"text": "at last"}]
    assert answer["ResponseMetadata"]["RetryAttempts"] == 2


def test_boto3_sees_a_broken_connection(cloud):
    cloud.script = Script(default=Answer("one two three", cut_after=2))
    with pytest.raises((ResponseStreamingError, ProtocolError)):
        list(converser(cloud).converse_stream(**asked())["stream"])


def test_limits_and_stop_sequences_end_an_answer(cloud):
    cloud.script = Script(default=Answer("one two three four"))
    client = converser(cloud)
    cut = client.converse(**asked(), inferenceConfig={"maxTokens": 2})
    assert (cut["stopReason"], cut["output"]["message"]["content"]) == ("max_tokens", [{"text": "one two "}])
    stopped = client.converse(
        **asked(), inferenceConfig={"stopSequences": ["thr"]}, additionalModelResponseFieldPaths=["/stop_sequence"]
    )
    assert (stopped["stopReason"], stopped["output"]["message"]["content"]) == ("stop_sequence", [{"text": "one two "}])
    assert stopped["additionalModelResponseFields"] == {"stop_sequence": "thr"}


def test_a_filter_is_a_reason_to_stop(cloud):
    cloud.script = Script(plays=(Block(), Block("guardrail_intervened")))
    client = converser(cloud)
    assert client.converse(**asked())["stopReason"] == "content_filtered"
    assert client.converse(**asked())["stopReason"] == "guardrail_intervened"


def test_tokens_are_counted(cloud):
    counted = converser(cloud).count_tokens(modelId=MODEL, input={"converse": {"messages": asked("a b c")["messages"]}})
    assert counted["inputTokens"] == 3


@pytest.mark.parametrize(
    "messages",
    [[{"role": "assistant", "content": [{"text": "I begin"}]}],
     [{"role": "user", "content": [{"text": " "}]}],
     [{"role": "user", "content": [{"text": "a"}]}, {"role": "user", "content": [{"text": "b"}]}],
     [{"role": "user", "content": [{"text": "a"}]}, {"role": "assistant", "content": [{"text": "b "}]}]],
    ids=["assistant first", "blank", "twice", "space at the end"],
)  # fmt: skip
def test_a_conversation_that_amazon_refuses_is_refused(cloud, messages):
    with pytest.raises(ClientError, match="ValidationException"):
        converser(cloud).converse(modelId=MODEL, messages=messages)


def test_a_wrong_secret_is_refused(cloud, monkeypatch, tmp_path):
    clear(monkeypatch, tmp_path)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", cloud.gate.lasting.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(ClientError, match="InvalidSignatureException"):
        converser(cloud, keys=False).converse(**asked())


def test_boto3_renews_credentials_that_expire_in_mid_run(cloud, monkeypatch, tmp_path):
    clear(monkeypatch, tmp_path)
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{cloud.url}/credentials")
    cloud.script = Script(default=Answer("one two three"), credential_s=300.0)  # boto3 renews in the last ten minutes
    client = converser(cloud, keys=False)
    first = client.converse_stream(**asked())["stream"]
    text = [next(iter(first))]
    cloud.gate.expire()
    text += list(first)  # a stream goes on: only its beginning was checked
    assert "messageStop" in text[-2]
    issued = cloud.gate.num_issued
    assert client.converse(**asked())["stopReason"] == "end_turn"
    assert cloud.gate.num_issued > issued


def test_expired_credentials_are_called_so(cloud):
    session = cloud.gate.issue(3600.0)
    cloud.gate.expire()
    import boto3

    client = boto3.client(
        "bedrock-runtime", REGION, endpoint_url=cloud.url, aws_access_key_id=session.access_key,
        aws_secret_access_key=session.secret_key, aws_session_token=session.token,
    )  # fmt: skip
    with pytest.raises(ClientError, match="ExpiredTokenException"):
        client.converse(**asked())


def test_the_cloud_runs_as_a_process(monkeypatch, tmp_path):
    script = tmp_path / "script.toml"
    script.write_text('[default]\ntype = "answer"\ntext = "from a file"\n')
    command = [sys.executable, "-m", "isochrone.testing.clouds", "bedrock", "--script", str(script)]
    root = Path(__file__).parents[3]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root / "src")
    try:
        ready = json.loads(process.stdout.readline())
        import boto3

        client = boto3.client(
            "bedrock-runtime", ready["region"], endpoint_url=ready["url"], aws_access_key_id=ready["access_key"],
            aws_secret_access_key=ready["secret_key"],
        )  # fmt: skip
        assert client.converse(**asked())["output"]["message"]["content"] == [{"text": "from a file"}]
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()
