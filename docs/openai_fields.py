"""The reference page of OpenAI's chat and completions bodies, printed from the tables that the server goes by."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from isochrone.gateway import openai_chat_fields, openai_completions, openai_tables
from isochrone.gateway.fields import Refusals


def openai_page() -> str:
    """Every field of both bodies, with what becomes of it."""
    own = openai_tables.OWN
    return "".join([
        "# Fields of OpenAI's chat and completions\n\n",
        "*Honoured*: does what OpenAI documents. *Accepted*: there is nothing here that it could change. *Refused*:\n",
        "an error with the field's name, unless the value asks for nothing. A field that is not here is an error\n",
        "too, which names the nearest one.\n",
        *_body(
            "/v1/chat/completions", openai_tables.CHAT, openai_tables.CHAT_ACCEPTED, openai_chat_fields.REFUSED,
            own | openai_tables.CHAT_OWN,
        ),
        *_body(
            "/v1/completions", openai_tables.COMPLETIONS, openai_tables.COMPLETIONS_ACCEPTED,
            openai_completions.REFUSED, own | openai_tables.COMPLETIONS_OWN,
        ),
    ])  # fmt: skip


def _body(
    path: str, honoured: Mapping[str, str], accepted: Mapping[str, str], refused: Refusals, own: Mapping[str, str]
) -> list[str]:
    rows = {name: ("honoured", what) for name, what in honoured.items()}
    rows |= {name: ("accepted", what) for name, what in accepted.items()}
    rows |= {name: ("refused", _refused(*refusal)) for name, refusal in refused.items()}
    return [
        f"\n## {path}\n\n| field | here | what it does |\n|---|---|---|\n",
        *(f"| `{name}` | {here} | {what} |\n" for name, (here, what) in sorted(rows.items())),
        "\nBeyond OpenAI's:\n\n| field | what it does |\n|---|---|\n",
        *(f"| `{name}` | {what} |\n" for name, what in own.items()),
    ]


def _refused(neutral: tuple[object, ...], instead: str) -> str:
    asks = " or ".join(f"`{msgspec.json.encode(value).decode()}`" for value in neutral)
    return f"{f'except {asks}. ' if asks else ''}{instead}"
