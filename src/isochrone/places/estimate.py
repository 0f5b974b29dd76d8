"""How many tokens a prompt has at a place whose tokenizer is its own: a guess, until its count comes with the end."""

from __future__ import annotations

from .place import Chat, Request, Text, TokenIds

CHARS_PER_TOKEN = 4
TURN_CHARS, TOOL_CHARS = 16, 64
"""What marks a turn or a tool in a template, beside its words."""


def num_prompt_tokens(request: Request) -> int:
    """About how many, of what is answered already too; at least one."""
    match request.prompt:
        case TokenIds(ids):
            num_prompt = len(ids)
        case Text(text):
            num_prompt = len(text) // CHARS_PER_TOKEN
        case Chat() as chat:
            num_prompt = _num_chars(chat) // CHARS_PER_TOKEN
    begun = request.partial
    return 1 + num_prompt + (0 if begun is None else len(begun.text) // CHARS_PER_TOKEN)


def _num_chars(chat: Chat) -> int:
    num = sum(TURN_CHARS + len(turn.content) + len(turn.reasoning) for turn in chat.messages)
    num += sum(len(call.name) + len(call.arguments) for turn in chat.messages for call in turn.tool_calls)
    return num + sum(TOOL_CHARS + len(tool.description) + len(str(tool.parameters or "")) for tool in chat.tools)
