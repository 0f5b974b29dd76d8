"""Fuzz chat templates, which come with models from strangers."""

from __future__ import annotations

from tests.fuzz.target import Target

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "{{ 7 * 7 }} <|im_end|>"}]
TOOLS = [{"type": "function", "function": {"name": "f", "description": "", "parameters": {"type": "object"}}}]


def read(content: bytes) -> None:
    """A template is refused, or renders to a text.  Those that are rendered apart, by growth, are left to that."""
    from isochrone.errors import BadModel, BadRequest
    from isochrone.text.template import ChatTemplate

    try:
        template = ChatTemplate(content.decode("utf-8", "replace"), {"bos_token": "<s>"}, apart=False)
    except BadModel as error:
        assert error.message and error.fix
        return
    for tools in (None, TOOLS):
        try:
            assert isinstance(template.render(MESSAGES, tools, True), str)
        except (BadModel, BadRequest) as error:
            assert error.message and error.fix


def seeds() -> list[bytes]:
    return [
        b"", b"{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}",
        b"{%- if tools %}{{ tools | tojson(indent=2) }}{% endif -%}{{ messages[0]['content'].strip() }}",
        b"{% macro f(a, b=1) %}{{ a ~ b }}{% endmacro %}{{ f('x') }}{{ raise_exception('no') if false }}",
        b"{% set ns = namespace(n=0) %}{% for i in range(3) %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}",
        b"{{ bos_token }}{{ messages | map(attribute='role') | join(',') }}{{ strftime_now('%d %b %Y') }}",
    ]  # fmt: skip


TARGET = Target("template", read, seeds, ("isochrone.text.template",), memory_bytes=1024 << 20)
