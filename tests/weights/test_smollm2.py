"""The real model: small enough to pull, and read and packed whole."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from isochrone.weights import open_checkpoint
from isochrone.weights.form import pack_tensor
from isochrone.weights.here import find
from isochrone.weights.pack import num_tiles, packed_bytes, unpack_rows

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def model():
    path = find("smollm2-135m")
    if path is None:
        pytest.skip("smollm2-135m is not here: `isochrone pull smollm2-135m`.")
    return open_checkpoint(path)


def test_every_tensor_is_that_of_the_gguf_package(model):
    theirs = {tensor.name: tensor for tensor in gguf.GGUFReader(model.path).tensors}
    assert set(theirs) == set(model.tensors)
    for name, tensor in model.tensors.items():
        assert tensor.shape == tuple(int(size) for size in theirs[name].shape[::-1])
        assert tensor.format.name.upper() == theirs[name].tensor_type.name
        assert_array_equal(tensor.data.reshape(-1), theirs[name].data.view(np.uint8).reshape(-1))


def test_it_packs_without_loss_into_the_size_of_its_file(model):
    packed = 0
    for name in ("token_embd.weight", "blk.0.attn_q.weight", "blk.29.ffn_down.weight", "blk.0.attn_norm.weight"):
        tensor = model.tensors[name]
        rows = len(tensor.data)
        out = np.zeros((num_tiles(rows), packed_bytes(tensor.format, rows, tensor.k) // num_tiles(rows)), np.uint8)
        pack_tensor(tensor, tensor.format, out)
        assert_array_equal(unpack_rows(tensor.format, out, rows).reshape(tensor.shape), tensor.values())
    for tensor in model.tensors.values():
        packed += packed_bytes(tensor.format, *tensor.shape) if len(tensor.shape) == 2 else tensor.num_bytes
    assert packed <= 1.01 * model.num_bytes


def test_it_says_what_it_is(model):
    assert model.license == "apache-2.0"
    assert "<|im_start|>" in model.chat_template
    assert len(model.metadata["tokenizer.ggml.tokens"]) == 49_152
