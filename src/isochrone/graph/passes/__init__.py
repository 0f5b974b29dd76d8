"""Passes Graph -> Graph: one idea each, drawn before and after."""

from .drop_no_ops import drop_no_ops
from .fuse_gate_up import fuse_gate_up
from .fuse_qkv import fuse_qkv
from .fuse_residual import fuse_residual
from .quantise_activations import quantise_activations

__all__ = ["drop_no_ops", "fuse_gate_up", "fuse_qkv", "fuse_residual", "quantise_activations"]
