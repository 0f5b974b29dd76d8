"""Messages to the one text a model was trained to continue, by the template that came with the model."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from isochrone.errors import BadModel, BadRequest

from .fixed import fixed

if TYPE_CHECKING:
    from datetime import datetime

    import minijinja

SOURCE_CHARS_MAX = 1 << 20
INDENT_MAX = 16
# A unit is one instruction or about ten characters made, 30 to 40 ns: 0.1 s and 20 MB at most, where a conversation of
# 1,000 messages takes 23,000 units. Long messages bring their own.
FUEL = 2_000_000
FUEL_PER_CHAR = 4

_GENERATION = r"{%([-+]?)\s*(end)?generation\s*([-+]?)%}"


class ChatTemplate:
    """A Jinja template run by minijinja: it opens no file, and its fuel bounds its time and memory. A
    template whose lists may outgrow the fuel (`growth`) takes 0.1 s more, in a process with limits of its own.

    The environment is the one chat templates are written for: trim_blocks, lstrip_blocks, loop controls, Python's
    methods on texts and dictionaries, `raise_exception`, `strftime_now`, and `tojson` that escapes nothing for HTML.

    named_tokens   bos_token, eos_token, ... as the template calls them
    now            the clock of `strftime_now`; the machine's own without
    apart          render in a process of its own what fuel may not bound
    """

    def __init__(
        self,
        source: str,
        named_tokens: Mapping[str, str] | None = None,
        *,
        now: Callable[[], datetime] | None = None,
        apart: bool = True,
    ) -> None:
        # Here, as its expressions take 4 ms to compile, and a bare completion needs none of it.
        from .growth import may_outgrow_fuel

        if len(source) > SOURCE_CHARS_MAX:
            raise BadModel(
                f"The model's chat template has {len(source)} characters; at most {SOURCE_CHARS_MAX} are read.",
                fix="Use /v1/completions with a prompt of your own, or another copy of the model.",
            )
        self._named_tokens = dict(named_tokens or {})
        self._source, self._now = source, now
        self._apart = apart and may_outgrow_fuel(source)
        self._environment = _environment(now)
        try:
            self._environment.add_template("chat", _without_generation_marks(source))
        except Exception as error:
            raise BadModel(
                f"The model's chat template is not valid: {_first_line(error)}.",
                fix="Use /v1/completions with a prompt of your own, or another copy of the model.",
            ) from error

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        *,
        variables: Mapping[str, Any] | None = None,
    ) -> str:
        """The prompt. It holds its own special tokens: encode it with add_special=False.

        variables   further names the template may ask for, such as enable_thinking

        Raises BadRequest when the template refuses the messages or cannot read them, BadModel when it does not end.
        """
        context = {
            **self._named_tokens, **(variables or {}), "messages": messages, "tools": tools, "documents": None,
            "add_generation_prompt": add_generation_prompt,
        }  # fmt: skip
        if self._apart:
            from .template_apart import render_apart

            return render_apart(self._source, context, (self._now or _now)())
        return self._render(context)

    def _render(self, context: Mapping[str, Any]) -> str:
        import minijinja

        self._environment.fuel = FUEL + FUEL_PER_CHAR * _num_chars(context)
        try:
            return str(self._environment.render_template("chat", **fixed(context)))
        except minijinja.TemplateError as error:
            raise _refusal(error) from error
        except (ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
            raise BadRequest(
                f"The chat template cannot write these messages: {error}.",
                fix="Send messages with a role and a text content, and tools as JSON objects.", param="messages",
            ) from error  # fmt: skip


def _environment(now: Callable[[], datetime] | None) -> minijinja.Environment:
    import minijinja

    environment = minijinja.Environment(
        trim_blocks=True, lstrip_blocks=True, fuel=FUEL, undefined_behavior="lenient", debug=False, pycompat=True
    )
    environment.add_global("raise_exception", _raise_exception)
    environment.add_global("strftime_now", lambda form: (now or _now)().strftime(form))
    environment.add_filter("tojson", _tojson)
    return environment


def _now() -> datetime:
    from datetime import datetime

    return datetime.now()


def _raise_exception(message: object) -> None:
    raise BadRequest(
        f"The model's chat template refuses these messages: {message}",
        fix="Change the messages as it says.", param="messages",
    )  # fmt: skip


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: Sequence[str] | None = None,
    sort_keys: bool = False,
) -> str:
    if indent is not None and not 0 <= indent <= INDENT_MAX:
        raise ValueError(f"tojson indents by {indent}, where {INDENT_MAX} is the most")
    pair = None if separators is None else (str(separators[0]), str(separators[1]))
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=pair, sort_keys=sort_keys)


def _without_generation_marks(source: str) -> str:
    """`{% generation %}` marks what training learns from; here it is a block that is always shown."""
    return re.sub(
        _GENERATION, lambda mark: f"{{%{mark[1]} {'endif' if mark[2] else 'if true'} {mark[3]}%}}", source
    )  # fmt: skip


def _refusal(error: minijinja.TemplateError) -> BadModel | BadRequest:
    kind = getattr(error, "kind", "")
    if kind == "OutOfFuel":
        return BadModel(
            "The model's chat template does not come to an end.",
            fix="Use /v1/completions with a prompt of your own, or another copy of the model.",
        )
    if kind in ("UnknownFilter", "UnknownTest", "UnknownFunction", "TemplateNotFound") or _is_method_of_text(error):
        return BadModel(
            f"The model's chat template uses what is not offered here: {_first_line(error)}.",
            fix="Use /v1/completions with a prompt of your own, or another copy of the model.",
        )
    return BadRequest(
        f"The chat template cannot write these messages: {_first_line(error)}.",
        fix="Send messages with a role and a text content; some models take no system or tool messages.",
        param="messages",
    )


def _is_method_of_text(error: minijinja.TemplateError) -> bool:
    """A text lacks the method, so the template asks too much; if a list or none does, the messages are wrong."""
    return getattr(error, "kind", "") == "UnknownMethod" and "string has no method" in str(error)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _num_chars(value: Any) -> int:
    """Characters in all texts of a nest of lists and dictionaries, without recursion: requests nest as they like."""
    total, rest = 0, [value]
    while rest:
        item = rest.pop()
        if isinstance(item, str):
            total += len(item)
        elif isinstance(item, Mapping):
            rest.extend(item.keys())
            rest.extend(item.values())
        elif isinstance(item, list | tuple):
            rest.extend(item)
    return total
