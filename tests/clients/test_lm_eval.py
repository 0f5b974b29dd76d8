"""lm-eval's `local-completions` over 200 questions: scored by log-likelihood, and answered in words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import NAME
from tests.clients.tasks.make import FILE, questions

TASKS = FILE.parent


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory, model_path: Path) -> Path:
    """The model's tokenizer as Hugging Face keeps it, which the harness counts tokens with."""
    from transformers import AutoTokenizer

    directory = tmp_path_factory.mktemp("tokenizer")
    AutoTokenizer.from_pretrained(model_path.parent, gguf_file=model_path.name).save_pretrained(directory)
    return directory


def evaluate(task: str, url: str, tokenizer: Path, out: Path) -> dict[str, Any]:
    """The harness's own results of one task."""
    arguments = (
        f"model={NAME},base_url={url}/v1/completions,tokenizer_backend=huggingface,tokenizer={tokenizer},"
        "num_concurrent=4,max_retries=1,max_length=1024"
    )
    environment = os.environ | {"HF_HOME": str(out / "hub"), "HF_HUB_OFFLINE": "1", "OPENAI_API_KEY": "none"}
    done = subprocess.run(
        [sys.executable, "-m", "lm_eval", "run", "--model", "local-completions", "--model_args", arguments, "--tasks",
         task, "--include_path", str(TASKS), "--output_path", str(out)],
        cwd=TASKS, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    (file,) = out.rglob("results*.json")
    results: dict[str, Any] = json.loads(file.read_text())
    return results


def test_the_committed_questions_are_what_their_maker_writes() -> None:
    assert [json.loads(line) for line in FILE.read_text().splitlines()] == questions()


@pytest.mark.parametrize(
    ("task", "metric", "least"),
    [("everyday_choice", "acc,none", 0.45), ("everyday_answer", "exact_match,trimmed", 0.1)],
)
def test_lm_eval_scores_every_question(
    url: str, tokenizer: Path, tmp_path: Path, task: str, metric: str, least: float
) -> None:
    results = evaluate(task, url, tokenizer, tmp_path)
    assert results["n-samples"][task]["effective"] == 200
    assert results["results"][task][metric] > least, "no better than guessing: what is scored is not what was asked"
