"""What the cost model expects of a request, and what it learns from each: shown in the log and in `/metrics`."""

from __future__ import annotations

from isochrone.places.place import Load
from isochrone.predict.correction import Correction, learn
from isochrone.predict.latency import CostModel, Machine, Queue, predict_request

from .meter import Prediction


class Foresight:
    """Fulfils `Predictor` for one local model.

    block_tokens  positions in a block of the KV cache
    """

    def __init__(self, model: CostModel, machine: Machine, *, block_tokens: int) -> None:
        self._model, self._machine, self._block_tokens = model, machine, block_tokens
        self.ttft, self.itl = Correction(), Correction()

    def predict(self, num_prompt: int, num_cached: int, num_answer: int, load: Load) -> Prediction:
        """See `Predictor.predict`.  The running sequences are taken to be equally deep, the waiting ones like this."""
        depth = load.num_blocks_held * self._block_tokens // max(1, load.num_running)
        queue = Queue(load.num_waiting * num_prompt, (depth,) * load.num_running)
        raw = predict_request(
            self._model,
            self._machine,
            prompt_tokens=num_prompt,
            output_tokens=num_answer,
            cached_tokens=num_cached,
            queue=queue,
        )
        ttft_s, itl_s = raw.ttft.s_p50, raw.itl.s_p50
        return Prediction(self.ttft.apply(ttft_s).s_p50, self.itl.apply(itl_s).s_p50, ttft_s, itl_s)

    def learn(self, prediction: Prediction, ttft_s: float, itl_s: float | None) -> None:
        """See `Predictor.learn`."""
        self.ttft = learn(self.ttft, predicted_s=prediction.uncorrected_ttft_s, actual_s=ttft_s)
        if itl_s is not None:
            self.itl = learn(self.itl, predicted_s=prediction.uncorrected_itl_s, actual_s=itl_s)
