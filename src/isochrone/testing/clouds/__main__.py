"""`python -m isochrone.testing.clouds vertex|bedrock`: a test cloud as a process.

Prints one line of JSON, {"cloud": ..., "url": ..., ...}, when it listens; ends by SIGTERM or SIGINT.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import signal
import sys
from pathlib import Path

from isochrone.errors import IsochroneError

from .app import Cloud
from .script import Script, read_script

CLOUDS = {"vertex": ("vertex", "VertexCloud"), "bedrock": ("bedrock", "BedrockCloud")}
"""Name on the command line -> (module, class)."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m isochrone.testing.clouds", description="Run a test cloud.")
    parser.add_argument("cloud", choices=sorted(CLOUDS))
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--script", type=Path, help="JSON or TOML of what it answers")
    chosen = parser.parse_args(arguments)
    module, name = CLOUDS[chosen.cloud]
    try:
        script = read_script(chosen.script) if chosen.script else Script()
        cloud: Cloud = getattr(importlib.import_module(f"{__package__}.{module}"), name)(script)
    except IsochroneError as error:
        print(error, file=sys.stderr)
        return 1
    asyncio.run(_serve(cloud, chosen.cloud, chosen.host, chosen.port))
    return 0


async def _serve(cloud: Cloud, name: str, host: str, port: int) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    await cloud.start(port, host)
    print(json.dumps({"cloud": name, "url": cloud.url, **cloud.describe()}), flush=True)
    try:
        await ended.wait()
    finally:
        await cloud.close()


if __name__ == "__main__":
    sys.exit(main())
