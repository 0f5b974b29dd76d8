"""Two nodes of unequal speed at the end of delayed wires, two clouds, and a gateway that chooses among them.

    gateway ─┬─ relay, 4 ms there and back ──── near: this model, the quicker kernels
             ├─ relay, 40 ms there and back ─── far:  the same model, plain kernels; goes on with near's answers exactly
             ├─ bedrock: the test cloud of Amazon's protocol
             └─ vertex:  the test cloud of Google's

All are processes of this machine, but for the relays, which live in the caller's event loop.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from isochrone import paths
from isochrone.errors import MissingExtra
from isochrone.testing.clouds import Answer, Script
from isochrone.testing.relay import Relay

from .child import Child

try:
    import aiohttp
    import msgspec
except ImportError as error:
    raise MissingExtra(
        "A local fleet needs aiohttp, which is not installed.", fix="pip install 'isochrone[fleet,vertex]'"
    ) from error

MODEL = "smollm2-135m"
ROUTE = "assistant"
NEAR_S, FAR_S = 0.002, 0.02
"""One way."""
ISA = {"near": "avx2", "far": "portable"}
"""Kernels of unequal speed that give the same numbers."""
CONTEXT, KV_MEMORY = "1024", "256MB"
READY_S = 60.0
SAID = "The cloud answers as it was told to, a word at a time, and wishes you a pleasant day wherever you may be."
CLOUDS = {
    "bedrock": Script(default=Answer(SAID, first_token_s=0.35, token_s=0.015)),
    "vertex": Script(default=Answer(SAID, first_token_s=0.25, token_s=0.01)),
}
FOREIGN = ("AWS_", "GOOGLE_", "GEMINI_", "ISOCHRONE_", "CLOUDSDK_", "XDG_")
"""Variables with which somebody's own settings and credentials would get in."""


@dataclass(slots=True)
class Node:
    """One of our own, and the wire to it.  url  its own address, past the wire"""

    child: Child
    relay: Relay
    url: str

    async def restart(self) -> None:
        """Start again after a death, at the same address."""
        await self.child.start("--port", str(urlsplit(self.url).port))


class LocalFleet:
    """A context: everything listens inside it, and every process has ended after it.

    folder     for files, logs and the processes' state
    scripts    of the clouds, instead of the usual ones
    more       further text of the fleet file;  targets: of the route, beside the usual ones
    environ    further variables of the gateway
    """

    def __init__(
        self, folder: Path, *, scripts: Mapping[str, Script] = CLOUDS, more: str = "", targets: tuple[str, ...] = (),
        environ: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        self.folder, self._scripts, self._more, self._targets = folder, scripts, more, targets
        self._environ = dict(environ or {})
        self.nodes: dict[str, Node] = {}
        self.clouds: dict[str, tuple[Child, dict[str, Any]]] = {}
        self.gateway: Child | None = None
        self.url = ""
        self._stack = AsyncExitStack()

    @property
    def file(self) -> Path:
        """The fleet file."""
        return self.folder / "fleet.toml"

    @property
    def ledger(self) -> Path:
        """The gateway's."""
        return self.folder / "gateway" / "state" / "ledger.db"

    async def __aenter__(self) -> Self:
        try:
            async with asyncio.TaskGroup() as starting:
                for name in ISA:
                    starting.create_task(self._start_node(name))
                for name in self._scripts:
                    starting.create_task(self._start_cloud(name))
            self.file.write_text(self._fleet_text())
            await self._start_gateway()
        except BaseException as error:
            await self._stack.aclose()
            if isinstance(error, ExceptionGroup):
                raise error.exceptions[0] from None
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def play(self, cloud: str, script: Script) -> None:
        """A cloud behaves like this from now on."""
        url = f"{self.clouds[cloud][1]['url']}/_control/script"
        async with aiohttp.ClientSession() as session, session.put(url, data=msgspec.json.encode(script)) as answer:
            answer.raise_for_status()

    async def places(self) -> dict[str, str]:
        """The state of each place, as the gateway sees it."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.url}/v1/places") as answer:
            return {row["name"]: row["state"] for row in (await answer.json())["data"]}

    async def until_ready(self, *names: str) -> None:
        """Until the gateway knows that these places are ready; without names, all.  Raises TimeoutError."""
        async with asyncio.timeout(READY_S):
            while any(state != "ready" for name, state in (await self.places()).items() if name in names or not names):
                await asyncio.sleep(0.05)

    async def _start_node(self, name: str) -> None:
        command = self._isochrone(
            "up", MODEL, "--json", "--threads", "1", "--isa", ISA[name], "--context", CONTEXT, "--kv-memory", KV_MEMORY,
            "--log-level", "warning", "--drain", "1s",
        )  # fmt: skip
        child = self._child(name, command)
        said = await child.start("--port", "0")
        url = said["url"].removesuffix("/v1")
        wire = Relay("127.0.0.1", urlsplit(url).port or 0, delay_s=NEAR_S if name == "near" else FAR_S)
        self.nodes[name] = Node(child, await self._stack.enter_async_context(wire), url)

    async def _start_cloud(self, name: str) -> None:
        script = self.folder / f"{name}.json"
        script.write_bytes(msgspec.json.encode(self._scripts[name]))
        command = [sys.executable, "-m", "isochrone.testing.clouds", name, "--script", str(script)]
        child = self._child(name, command)
        self.clouds[name] = child, await child.start()

    async def _start_gateway(self) -> None:
        more: dict[str, str] = {}
        if "bedrock" in self.clouds:
            said = self.clouds["bedrock"][1]
            more |= {"AWS_ACCESS_KEY_ID": said["access_key"], "AWS_SECRET_ACCESS_KEY": said["secret_key"]}
        command = self._isochrone("up", "--json", "--fleet", str(self.file), "--log-level", "warning", "--drain", "1s")
        self.gateway = self._child("gateway", command, more | self._environ)
        self.url = (await self.gateway.start("--port", "0"))["url"].removesuffix("/v1")
        await self.until_ready()

    @staticmethod
    def _isochrone(*words: str) -> list[str]:
        return [sys.executable, "-m", "isochrone.cli", *words]

    def environ_of(self, name: str) -> dict[str, str]:
        """Variables of a process: its home is its own, with the models and compiled kernels that are here already."""
        home = self.folder / name
        if not home.exists():
            home.mkdir(parents=True)
            for link, room in (("data", paths.data_dir()), ("cache", paths.cache_dir())):
                (home / link).symlink_to(paths.made(room))
        environ = {key: value for key, value in os.environ.items() if not key.startswith(FOREIGN)}
        return environ | {"ISOCHRONE_HOME": str(home), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}

    def _child(self, name: str, command: list[str], more: Mapping[str, str] | None = None) -> Child:
        environ = self.environ_of(name) | dict(more or {})
        child = Child(name, command, environ, self.folder / f"{name}.log")
        self._stack.push_async_callback(child.end)
        return child

    def _fleet_text(self) -> str:
        text = '[gateway]\nhere = "eu-central-1"\n'
        targets = list(self._targets)
        for name, node in self.nodes.items():
            text += (
                f'\n[[place]]\nname = "{name}"\nkind = "isochrone"\nurl = "{node.relay.url}"\nlocation = "site"\n'
                f'models = ["{MODEL}"]\noptions = {{ poll_s = 0.5 }}\n'
            )
            targets.append(f"{name}/{MODEL}")
        for name, (_, said) in self.clouds.items():
            text += self._cloud_text(name, said)
            targets.append(f"{name}/{_CLOUD_MODELS[name][0]}")
        listed = ", ".join(f'"{target}"' for target in targets)
        return f'{text}\n{self._more}\n[[route]]\nname = "{ROUTE}"\ntargets = [{listed}]\n'

    def _cloud_text(self, name: str, said: dict[str, Any]) -> str:
        short, upstream, location = _CLOUD_MODELS[name]
        text = (
            f'\n[[place]]\nname = "{name}"\nkind = "{name}"\nurl = "{said["url"]}"\nlocation = "{location}"\n'
        )
        if name == "vertex":
            credentials = self.folder / "service-account.json"
            credentials.write_text(json.dumps(said["service_account"]))
            text += f'options = {{ credentials = "{credentials}" }}\n'
        return f'{text}[[place.model]]\nid = "{short}"\nupstream = "{upstream}"\n'


_CLOUD_MODELS = {
    "bedrock": ("haiku", "eu.anthropic.claude-haiku-4-5-20251001-v1:0", "eu-central-1"),
    "vertex": ("flash", "gemini-2.5-flash", "europe-west4"),
}
"""(as the route names it, as the cloud does, where)"""
