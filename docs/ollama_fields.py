"""The reference page of `/api/chat` and `/api/generate`, printed from the tables that the server itself goes by."""

from __future__ import annotations

from docs.field_rows import field_table, legend
from isochrone.gateway import ollama_fields as fields


def ollama_page() -> str:
    """Every field of the bodies and every option, with what becomes of it."""
    return "".join([
        "# Fields of Ollama's API\n\n",
        legend("Ollama"),
        "## `/api/chat`\n\n",
        *field_table(fields.CHAT_HONOURED, fields.ACCEPTED, fields.REFUSED),
        "\n## `/api/generate`\n\n",
        *field_table(fields.GENERATE_HONOURED, fields.ACCEPTED, fields.GENERATE_REFUSED),
        "\n## `options`\n\n",
        *field_table(fields.OPTIONS_HONOURED, fields.OPTIONS_ACCEPTED, fields.OPTIONS_REFUSED),
        "\n## The other paths\n\n",
        "`/api/tags`, `/api/ps`, `/api/show` and `/api/version` say what is served. What manages models (`pull`,\n",
        "`push`, `create`, `copy`, `delete`) and what embeds is not here.\n",
    ])  # fmt: skip
