"""Llama 3: the answer is `{"name": ..., "parameters": {...}}`, perhaps behind `<|python_tag|>`."""

from __future__ import annotations

from .bare_json import BareJson


class Llama(BareJson):
    name = "llama"
    key = "parameters"
    separator = "; "
    opener = "<|python_tag|>"
    marks = ("<|python_tag|>",)
    ends = ("<|eom_id|>", "<|eot_id|>")
