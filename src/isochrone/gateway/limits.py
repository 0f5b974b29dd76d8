"""How much one caller can make this server hold, and for how long: plain numbers, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request may cost before a token is drawn.

    head_bytes, head_s   request line and headers: 16 KiB is what other servers take; a slow sender gets ten seconds
    body_bytes, body_s   8 MiB of JSON are two million tokens, more than any context here
    num_messages         turns of one conversation
    num_prompts          prompts in one completions request, as evaluation harnesses batch them
    num_answers          answers to one request, prompts times n
    num_tools, tools_bytes   offered tools, and all their schemas together: what the template must write out
    format_bytes         a schema, an expression or a grammar that an answer must fit
    num_in_flight        requests held at once, those that wait in the engine's queue included
    request_bytes        memory that one request's answers may come to need: n times tokens times what each carries
    reserved_bytes       the same for all requests together; reserved before anything is allocated for one
    write_s              a client that reads nothing for so long is taken for gone
    idle_s               how long a connection may rest between two requests
    """

    head_bytes: int = 16 * 1024
    head_s: float = 10.0
    body_bytes: int = 8 * 1024 * 1024
    body_s: float = 30.0
    num_messages: int = 4096
    num_prompts: int = 256
    num_answers: int = 256
    num_tools: int = 128
    tools_bytes: int = 256 * 1024
    format_bytes: int = 64 * 1024
    num_in_flight: int = 1024
    request_bytes: int = 256 * 1024 * 1024
    reserved_bytes: int = 1024 * 1024 * 1024
    write_s: float = 30.0
    idle_s: float = 75.0
