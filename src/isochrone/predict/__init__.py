"""How long it will take, before it is done: plan cost over machine profile, plus queue, plus network."""

from .correction import Correction, Quantiles, learn
from .cost import Efficiency, RegionCost, StepCost, step_s
from .latency import Machine, Network, Prediction, Queue, decode_step_s, predict_request, prefill_s
from .model import FormPrediction, ModelPrediction, predict_model
from .shape import AUTOMATIC_FORMS, FORMS, Chunk, Form, ModelShape, ShapeCost, kv_item_bytes

__all__ = [
    "Correction",
    "Quantiles",
    "learn",
    "Efficiency",
    "RegionCost",
    "StepCost",
    "step_s",
    "Machine",
    "Network",
    "Prediction",
    "Queue",
    "decode_step_s",
    "predict_request",
    "prefill_s",
    "FormPrediction",
    "ModelPrediction",
    "predict_model",
    "AUTOMATIC_FORMS",
    "FORMS",
    "Chunk",
    "Form",
    "ModelShape",
    "ShapeCost",
    "kv_item_bytes",
]
