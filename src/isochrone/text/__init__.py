"""Text to tokens and back: tokenizers, chat templates, incremental detokenising, stop strings."""

from .load import load_tokenizer
from .stops import StopStrings
from .stream import StreamDecoder
from .tokenizer import Tokenizer

__all__ = ["StopStrings", "StreamDecoder", "Tokenizer", "load_tokenizer"]
