"""boto3 and our own place, both pointed at one test cloud."""

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import boto3
from botocore.config import Config

from isochrone.budget import Budget, Deadline
from isochrone.places.bedrock import Bedrock
from isochrone.places.bedrock_auth import AwsAuth
from isochrone.places.bedrock_settings import BedrockModel, BedrockSettings
from isochrone.places.bedrock_sign import Credentials
from isochrone.places.place import Chat, Delta, Message, Prompted, Request
from isochrone.testing.clouds.bedrock import BedrockCloud

MODEL = "anthropic.claude-haiku-4-5-20251001-v1:0"
REGION = "eu-central-1"


def converser(cloud: BedrockCloud, *, attempts: int = 1, keys: bool = True) -> Any:
    """boto3's client.  keys  False: it looks for credentials itself"""
    lasting = cloud.gate.lasting
    given = {"aws_access_key_id": lasting.access_key, "aws_secret_access_key": lasting.secret_key} if keys else {}
    config = Config(retries={"total_max_attempts": attempts, "mode": "standard"})
    session = boto3.session.Session()
    return session.client("bedrock-runtime", region_name=REGION, endpoint_url=cloud.url, config=config, **given)


def asked(text: str = "Hello there") -> dict[str, Any]:
    return {"modelId": MODEL, "messages": [{"role": "user", "content": [{"text": text}]}]}


def clear(monkeypatch: Any, tmp_path: Any) -> None:
    """No credentials but those that the test sets."""
    import os

    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@asynccontextmanager
async def placed(cloud: BedrockCloud, model: BedrockModel | None = None, **settings: Any) -> AsyncIterator[Bedrock]:
    """Our place, signing with the cloud's lasting credentials."""
    lasting = cloud.gate.lasting
    auth = AwsAuth(REGION, credentials=Credentials(lasting.access_key, lasting.secret_key), environ={})
    one = model or BedrockModel("m", MODEL)
    async with opened(cloud, auth, BedrockSettings((one,), REGION, cloud.url, **settings)) as place:
        yield place


@asynccontextmanager
async def opened(cloud: BedrockCloud, auth: AwsAuth | None, settings: BedrockSettings | None = None, **more: Any
) -> AsyncIterator[Bedrock]:  # fmt: skip
    settings = settings or BedrockSettings((BedrockModel("m", MODEL),), REGION, cloud.url)
    place = Bedrock("aws", settings, auth=auth, **more)
    try:
        yield place
    finally:
        await place.close()


def chat(*messages: tuple[str, str], **more: Any) -> Chat:
    turns = messages or (("user", "Hello there"),)
    return Chat(tuple(Message(role, content) for role, content in turns), **more)


def request(prompt: Chat | None = None, **more: Any) -> Request:
    return Request("r1", "m", "tenant", prompt or chat(), **more)


def deadline(total_s: float = 60.0) -> Deadline:
    return Deadline.start(Budget(total_s=total_s), time.monotonic())


async def collect(place: Bedrock, wanted: Request, until: Deadline | None = None) -> list[Prompted | Delta]:
    return [item async for item in place.complete(wanted, until or deadline())]


def deltas(items: list[Prompted | Delta]) -> list[Delta]:
    assert isinstance(items[0], Prompted) and items[0].num_tokens > 0
    rest = items[1:]
    assert all(isinstance(item, Delta) for item in rest)
    return rest  # type: ignore[return-value]


def text_of(items: list[Prompted | Delta]) -> str:
    return "".join(delta.text for delta in deltas(items))


def last_body(cloud: BedrockCloud) -> Mapping[str, Any]:
    return cloud.seen[-1].body
