"""Prompts of every form to the tokens a model reads."""

from __future__ import annotations

import threading
from typing import Any

from isochrone.errors import BadRequest
from isochrone.text import ChatTemplate, Tokenizer

from .place import Chat, Message, Prompt, Text, TokenIds


class Reader:
    """A model's tokenizer with its chat template.  May be used from several threads.

    template  source of the chat template; None for a model that only continues texts
    """

    def __init__(self, tokenizer: Tokenizer, template: str | None) -> None:
        self.tokenizer = tokenizer
        self._source = template
        self._by_thread = threading.local()  # a template's fuel is set before each run, so no two runs may share one
        if template is not None:
            self._template()  # a broken template is said at the start, not at the first chat

    def ids(self, prompt: Prompt) -> list[int]:
        """The prompt's tokens.  Raises BadRequest."""
        match prompt:
            case Chat(messages, add_generation_prompt):
                turns = [_turn(message) for message in messages]
                text = self._template().render(turns, None, add_generation_prompt)
                return self.tokenizer.encode(text, add_special=False)
            case Text(text, add_special):
                return self.tokenizer.encode(text, add_special=add_special)
            case TokenIds(ids):
                return list(ids)

    def text(self, prompt: Prompt, ids: list[int]) -> str:
        """The prompt as its sender would write it."""
        return prompt.text if isinstance(prompt, Text) else self.tokenizer.decode(ids, skip_special=False)

    def _template(self) -> ChatTemplate:
        if self._source is None:
            raise BadRequest(
                "This model has no chat template, so it cannot read messages.", fix="Use /v1/completions with a prompt."
            )
        template: ChatTemplate | None = getattr(self._by_thread, "template", None)
        if template is None:
            template = self._by_thread.template = ChatTemplate(self._source, self.tokenizer.named_tokens)
        return template


def num_chars(prompt: Prompt) -> int:
    """How much there is to read: long prompts are read aside, so that no stream stutters meanwhile."""
    match prompt:
        case Chat(messages):
            return sum(len(message.content) for message in messages) + 100 * len(messages)
        case Text(text):
            return len(text)
        case TokenIds():
            return 0


def _turn(message: Message) -> dict[str, Any]:
    turn = {"role": message.role, "content": message.content}
    return turn if message.name is None else turn | {"name": message.name}
