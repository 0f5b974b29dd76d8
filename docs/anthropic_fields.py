"""The reference page of `/v1/messages`, printed from the tables that the server itself goes by."""

from __future__ import annotations

from docs.field_rows import field_table, legend
from isochrone.gateway import anthropic_fields as fields


def anthropic_page() -> str:
    """Every field of the body and every type of block, with what becomes of it."""
    counted = ", ".join(f"`{name}`" for name in fields.CountFields.__struct_fields__)
    return "".join([
        "# Fields of /v1/messages\n\n",
        legend("Anthropic"),
        *field_table(fields.HONOURED, fields.ACCEPTED, fields.REFUSED),
        "\n`/v1/messages/count_tokens` takes ", counted, ".\n",
        "\n## Blocks of a message\n\n| type | here |\n|---|---|\n",
        *(f"| `{kind}` | read |\n" for kind in fields.BLOCKS),
        *(f"| `{kind}` | refused |\n" for kind in sorted(fields.BLOCKS_REFUSED)),
        "\n## Headers\n\n",
        "The key may come as `x-api-key` or as `Authorization: Bearer`. `anthropic-version` and `anthropic-beta` are\n",
        "taken and change nothing. `request-id` and `x-request-id` of the answer name the request in the log.\n",
        "\n## Errors\n\nErrors are in Anthropic's shape, with our `code` beside its `type`. A server that is busy\n",
        "says 529, `overloaded_error`, with `retry-after`.\n",
    ])  # fmt: skip
