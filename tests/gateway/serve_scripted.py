"""`python -m tests.gateway.serve_scripted TOKENIZER`: a server for signals.  The engine stands still until SIGUSR1."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from isochrone.gateway.serve import Serving, serve
from isochrone.places.local import Local
from tests.gateway.scripted import ScriptedEngine, read_tokenizer


class StandingEngine(ScriptedEngine):
    async def start(self):  # type: ignore[no-untyped-def]
        self.gate.clear()
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, self.gate.set)
        return await super().start()


if __name__ == "__main__":
    place = Local("tiny", StandingEngine(), lambda: read_tokenizer(Path(sys.argv[1])))
    serving = Serving(port=0, api_key=os.environ.get("ISOCHRONE_API_KEY"))
    serve(place, serving, on_listening=lambda url: print(url, flush=True))
