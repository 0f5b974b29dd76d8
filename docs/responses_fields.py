"""The reference page of `/v1/responses`, printed from the tables that the server itself goes by."""

from __future__ import annotations

import msgspec

from isochrone.gateway import openai_responses_fields as fields
from isochrone.gateway import openai_responses_items as items
from isochrone.gateway import openai_responses_tools as tools


def responses_page() -> str:
    """Every field of the body, every kind of item and of tool, with what becomes of it."""
    rows = {name: ("honoured", what) for name, what in fields.HONOURED.items()}
    rows |= {name: ("accepted", what) for name, what in fields.ACCEPTED.items()}
    rows |= {name: ("refused", _refused(*refusal)) for name, refusal in fields.REFUSED.items()}
    lines = [
        "# Fields of /v1/responses\n\n",
        "*Honoured*: does what OpenAI documents. *Accepted*: there is nothing here that it could change. *Refused*:\n",
        "an error with the field's name, unless the value asks for nothing. A field that is not here is an error.\n",
        "\n",
        "| field | here | what it does |\n|---|---|---|\n",
        *(f"| `{name}` | {here} | {what} |\n" for name, (here, what) in sorted(rows.items())),
        "\n## Beyond OpenAI's\n\n| field | what it does |\n|---|---|\n",
        *(f"| `{name}` | {what} |\n" for name, what in sorted(fields.OWN.items())),
        "\n## Items of `input`\n\n| type | here |\n|---|---|\n",
        *(f"| `{kind}` | read |\n" for kind in items.KINDS),
        *(f"| `{kind}` | left out: what came of it is in the messages |\n" for kind in sorted(items.LEFT_OUT)),
        *(f"| `{kind}` | refused |\n" for kind in sorted(items.REFUSED_KINDS)),
        "\nThe parts of a message are `input_text`, `output_text` and `refusal`; images, files, audio are refused.\n",
        "\n## Kinds of `tools`\n\n| type | here |\n|---|---|\n",
        *(f"| `{kind}` | offered to the model |\n" for kind in tools.KINDS),
        *(f"| `{kind}` | left out, and named in `isochrone.tools_left_out` |\n" for kind in sorted(tools.LEFT_OUT)),
        *(f"| `{kind}` | refused |\n" for kind in sorted(tools.REFUSED)),
        "\nA custom tool whose `format` is a grammar is refused; so are `async` tools, and tools for programs only.\n",
    ]
    return "".join(lines)


def _refused(neutral: tuple[object, ...], instead: str) -> str:
    asks = " or ".join(f"`{msgspec.json.encode(value).decode()}`" for value in neutral)
    return f"{f'except {asks}. ' if asks else ''}{instead}"
