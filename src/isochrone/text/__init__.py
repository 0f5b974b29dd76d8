"""Text to tokens and back: tokenizers, chat templates, incremental detokenising, stop strings."""

from .load import load_tokenizer
from .stops import StopStrings
from .stream import StreamDecoder
from .template import ChatTemplate
from .tokenizer import Tokenizer

__all__ = ["ChatTemplate", "StopStrings", "StreamDecoder", "Tokenizer", "load_tokenizer"]
