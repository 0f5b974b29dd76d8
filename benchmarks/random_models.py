"""GGUF files with random weights in the true shapes of models too big to carry: speed only, the text is noise.

    python -m benchmarks.random_models            writes both, about 1.7 GB, seeded: the same bytes everywhere

Formats are those of the usual files: Q4_0 keeps its tied table in Q6_K, as llama-quantize does; Q8_0 is Q8_0
throughout.  Files live in $BENCH_MODELS, else ~/.cache/isochrone-bench/models.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

SEED = 20261124
F32, Q4_0, Q8_0, Q6_K = "F32", "Q4_0", "Q8_0", "Q6_K"
BLOCK = {Q4_0: (32, 18), Q8_0: (32, 34), Q6_K: (256, 210)}
"""Codes and bytes of one block."""
CHUNK_BLOCKS = 1 << 20


@dataclass(frozen=True, slots=True)
class RandomModel:
    """A shape and how its weights are stored."""

    name: str
    architecture: str
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    context: int
    rope_base: float
    body: str
    table: str
    pre_tokeniser: str
    has_qk_norm: bool = False
    has_rope_factors: bool = False


MODELS = {
    model.name: model
    for model in (
        RandomModel(
            "qwen3-0.6b-q4_0", "qwen3", 1024, 3072, 28, 16, 8, 128, 151936, 40960, 1e6, Q4_0, Q6_K, "qwen2",
            has_qk_norm=True,
        ),
        RandomModel(
            "llama-3.2-1b-q8_0", "llama", 2048, 8192, 16, 32, 8, 64, 128256, 131072, 5e5, Q8_0, Q8_0, "llama-bpe",
            has_rope_factors=True,
        ),
    )
}  # fmt: skip


def model_directory() -> Path:
    """Where the files are kept."""
    named = os.environ.get("BENCH_MODELS")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(named) if named else cache / "isochrone-bench" / "models"


def ensure_model(name: str) -> Path:
    """The file, written if it was missing."""
    path = model_directory() / f"{name}.gguf"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(f".{os.getpid()}")
        write_model(MODELS[name], aside)
        os.replace(aside, path)
    return path


def tensors(model: RandomModel) -> Iterator[tuple[str, str, int, int]]:
    """(name, format, rows, columns) of every tensor; vectors have one row."""
    hidden, queries, keys = model.hidden, model.heads * model.head_dim, model.kv_heads * model.head_dim
    yield "token_embd.weight", model.table, model.vocab, hidden
    yield "output_norm.weight", F32, 1, hidden
    if model.has_rope_factors:
        yield "rope_freqs.weight", F32, 1, model.head_dim // 2
    for layer in range(model.layers):
        block = f"blk.{layer}."
        yield block + "attn_norm.weight", F32, 1, hidden
        yield block + "attn_q.weight", model.body, queries, hidden
        yield block + "attn_k.weight", model.body, keys, hidden
        yield block + "attn_v.weight", model.body, keys, hidden
        yield block + "attn_output.weight", model.body, hidden, queries
        if model.has_qk_norm:
            yield block + "attn_q_norm.weight", F32, 1, model.head_dim
            yield block + "attn_k_norm.weight", F32, 1, model.head_dim
        yield block + "ffn_norm.weight", F32, 1, hidden
        yield block + "ffn_gate.weight", model.body, model.intermediate, hidden
        yield block + "ffn_up.weight", model.body, model.intermediate, hidden
        yield block + "ffn_down.weight", model.body, hidden, model.intermediate


def write_model(model: RandomModel, path: Path) -> None:
    """Write the whole file, one tensor in memory at a time."""
    import gguf

    writer = gguf.GGUFWriter(path, model.architecture)
    add_metadata(writer, model)
    for name, format, rows, columns in tensors(model):
        if format == F32:
            writer.add_tensor_info(name, [columns], np.dtype(np.float32), 4 * columns)
            continue
        codes, num_bytes = BLOCK[format]
        row_bytes = columns // codes * num_bytes
        kind = gguf.GGMLQuantizationType[format]
        writer.add_tensor_info(name, [rows, row_bytes], np.dtype(np.uint8), rows * row_bytes, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    source = np.random.default_rng(SEED)
    for name, format, rows, columns in tensors(model):
        writer.write_tensor_data(random_tensor(source, model, name, format, rows, columns))
    writer.close()


def add_metadata(writer: object, model: RandomModel) -> None:
    """Everything a loader asks for, tokenizer included."""
    import gguf

    assert isinstance(writer, gguf.GGUFWriter)
    writer.add_name(model.name)
    writer.add_file_type(gguf.LlamaFileType[f"MOSTLY_{model.body}"])
    writer.add_context_length(model.context)
    writer.add_embedding_length(model.hidden)
    writer.add_block_count(model.layers)
    writer.add_feed_forward_length(model.intermediate)
    writer.add_head_count(model.heads)
    writer.add_head_count_kv(model.kv_heads)
    writer.add_key_length(model.head_dim)
    writer.add_value_length(model.head_dim)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(model.rope_base)
    if model.architecture == "llama":
        writer.add_rope_dimension_count(model.head_dim)
        writer.add_vocab_size(model.vocab)
    tokens, merges = vocabulary(model.vocab)
    special = gguf.TokenType.CONTROL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(model.pre_tokeniser)
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.NORMAL] * (model.vocab - 2) + [special, special])
    writer.add_token_merges(merges)
    writer.add_bos_token_id(model.vocab - 2)
    writer.add_eos_token_id(model.vocab - 1)


def vocabulary(size: int) -> tuple[list[str], list[str]]:
    """A sound byte-level BPE: the bytes, then every pair of tokens so far until it is full."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spare = iter(range(256, 512))
    base = [chr(byte) if byte in printable else chr(next(spare)) for byte in range(256)]
    tokens, merges = list(base), list[str]()
    known = set(base)
    for left in (*base, *(a + b for a in base for b in base)):
        for right in base:
            if len(tokens) == size - 2:
                return [*tokens, "<|begin|>", "<|end|>"], merges
            if left in known and left + right not in known:
                known.add(left + right)
                tokens.append(left + right)
                merges.append(f"{left} {right}")
    raise AssertionError(f"{size} tokens are more than pairs and triples of bytes")


def random_tensor(
    source: np.random.Generator, model: RandomModel, name: str, format: str, rows: int, columns: int
) -> NDArray[np.float32] | NDArray[np.uint8]:
    """Random codes with scales that keep a layer's output as large as its input; norms of ones."""
    if name == "rope_freqs.weight":
        return rope_factors(model)
    if format == F32:
        return np.ones(columns, np.float32)
    codes, num_bytes = BLOCK[format]
    num_blocks = rows * columns // codes
    blocks = source.integers(0, 256, (num_blocks, num_bytes), np.uint8)
    spread = {Q4_0: 4.6, Q8_0: 74.0, Q6_K: 18.5 * 8.0}[format]
    scales = (source.uniform(0.5, 1.5, num_blocks) / (spread * columns**0.5)).astype(np.float16)
    if format == Q6_K:
        blocks[:, 192:208] = source.integers(1, 16, (num_blocks, 16), np.uint8)
        blocks[:, 208:210] = scales.view(np.uint8).reshape(-1, 2)
    else:
        blocks[:, 0:2] = scales.view(np.uint8).reshape(-1, 2)
    return blocks.reshape(rows, -1)


def rope_factors(model: RandomModel) -> NDArray[np.float32]:
    """Llama 3's divisors of the rotary frequencies: long waves by 32, short ones by 1, smooth between."""
    frequencies = model.rope_base ** -(np.arange(0, model.head_dim, 2) / model.head_dim)
    waves = 2 * np.pi / frequencies
    smooth = np.clip((8192 / waves - 1.0) / (4.0 - 1.0), 0.0, 1.0)
    return (1.0 / ((1 - smooth) / 32.0 + smooth)).astype(np.float32)


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(MODELS)))
def main(names: tuple[str, ...]) -> None:
    """Write the named random models, all of them by default."""
    for name in names or tuple(MODELS):
        path = ensure_model(name)
        click.echo(f"{path}  {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
