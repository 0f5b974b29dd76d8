"""Isochrone: language-model inference inside a latency budget, wherever the compute is."""

__version__ = "0.1.0"
