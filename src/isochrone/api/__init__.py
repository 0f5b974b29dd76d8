"""What the verbs and Python programs call: load a model, serve it, look inside, measure, predict.

Each file imports the rooms it needs when it is called, so that no start pays for another's imports.
"""

from .model import Completion, Model, Stream, load, open_model

__all__ = ["Completion", "Model", "Stream", "load", "open_model"]
