"""Checkpoints from disk to kernel layouts: readers, packing, and the local store that pulls and verifies."""

from .checkpoint import Checkpoint, TokenizerSource, fingerprint, open_checkpoint
from .dequantise import dequantise
from .tensor import StoredTensor

__all__ = ["Checkpoint", "StoredTensor", "TokenizerSource", "dequantise", "fingerprint", "open_checkpoint"]
