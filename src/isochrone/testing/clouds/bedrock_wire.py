"""What Amazon Bedrock sends: messages of an event stream, and exceptions in their two forms.

Written from the protocol's description, apart from the client's reader: nothing is shared with it.
"""

from __future__ import annotations

import binascii
import json
from typing import Any

from .script import Fault, FaultKind

Json = dict[str, Any]

REFUSALS: dict[FaultKind, tuple[int, str, str]] = {
    "throttled": (429, "ThrottlingException", "Too many requests, please wait before trying again."),
    "unavailable": (503, "ServiceUnavailableException", "The service is unavailable, try again later."),
    "overloaded": (503, "ServiceUnavailableException", "Bedrock is unable to process your request."),
    "internal": (500, "InternalServerException", "The system encountered an unexpected error during processing."),
    "timeout": (408, "ModelTimeoutException", "Model has timed out in processing the request."),
    "unauthenticated": (403, "UnrecognizedClientException", "The security token included in the request is invalid."),
    "denied": (403, "AccessDeniedException", "You don't have access to the model with the specified model ID."),
    "not_found": (404, "ResourceNotFoundException", "Could not resolve the foundation model from the identifier."),
    "invalid": (400, "ValidationException", "Malformed input request, please reformat your input and try again."),
    "too_long": (400, "ValidationException", "Input is too long for requested model."),
    "not_ready": (429, "ModelNotReadyException", "Model is not ready for inference."),
}
"""Kind of refusal -> (status, exception, message)."""

IN_STREAM: dict[FaultKind, str] = {
    "throttled": "throttlingException",
    "unavailable": "serviceUnavailableException",
    "overloaded": "serviceUnavailableException",
    "invalid": "validationException",
    "too_long": "validationException",
    "timeout": "modelStreamErrorException",
    "not_ready": "modelStreamErrorException",
}
"""The five exceptions that a stream may hold; whatever is not here is an internalServerException there."""


def event(kind: str, payload: Json) -> bytes:
    """One event.  Amazon pads payloads by a field `p`, so that their lengths say nothing of the words in them."""
    body = json.dumps({**payload, "p": "abcdefghijklmnop"[: 1 + len(str(payload)) % 16]}, ensure_ascii=False)
    return message(
        {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}, body.encode()
    )


def exception(fault: Fault) -> bytes:
    """A fault within the stream."""
    kind = IN_STREAM.get(fault.kind, "internalServerException")
    said = {"message": said_of(fault)}
    if kind == "modelStreamErrorException":
        said |= {"originalMessage": said_of(fault), "originalStatusCode": REFUSALS[fault.kind][0]}  # type: ignore[dict-item]
    headers = {":exception-type": kind, ":content-type": "application/json", ":message-type": "exception"}
    return message(headers, json.dumps(said).encode())


def said_of(fault: Fault) -> str:
    return REFUSALS[fault.kind][2] if fault.message is None else fault.message


def message(headers: dict[str, str], payload: bytes) -> bytes:
    """The bytes of one message of the event stream."""
    head = bytearray()
    for name, value in headers.items():
        text = value.encode()
        head += bytes([len(name)]) + name.encode() + b"\x07" + len(text).to_bytes(2, "big") + text
    start = (16 + len(head) + len(payload)).to_bytes(4, "big") + len(head).to_bytes(4, "big")
    whole = start + _crc(start) + bytes(head) + payload
    return whole + _crc(whole)


def _crc(data: bytes) -> bytes:
    return binascii.crc32(data).to_bytes(4, "big")
