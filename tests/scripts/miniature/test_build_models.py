"""How the base models are made: what the language model reads, and both tokenizers."""

from __future__ import annotations

import copy
import itertools
import random
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from mllm.template import prepare_tokenizer
from scripts.miniature.build_models import (
    clip_tokenizer,
    lesson_batch,
    llm_tokenizer,
    optimise,
)
from scripts.miniature.lessons import conversation


@pytest.fixture(scope="module")
def llama_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    return llm_tokenizer(tmp_path_factory.mktemp("llm"), random.Random(0))


def test_the_llamas_tokenizer_loses_nothing(
    llama_tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    llama_tokenizer.save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    for text in ("What is at the top left?\nAnswer (a) or (b).", "7 zebras, é"):
        assert tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True) == text
    assert tokenizer.eos_token == "</s>"


def test_only_answers_are_labelled(llama_tokenizer: PreTrainedTokenizerBase) -> None:
    chat = copy.deepcopy(llama_tokenizer)
    prepare_tokenizer(chat, system="")
    rng = random.Random(0)
    batch = lesson_batch(chat, [conversation(rng, progress=0.5) for _ in range(20)])
    ids, labels = batch["input_ids"], batch["labels"]
    assert ((labels == -100) | (labels == ids)).all()
    assert (labels[batch["attention_mask"] == 0] == -100).all()
    for row_ids, row_labels in zip(ids.tolist(), labels.tolist(), strict=True):
        runs = [
            llama_tokenizer.decode([token for token, _ in run])
            for labelled, run in itertools.groupby(
                zip(row_ids, row_labels, strict=True), key=lambda pair: pair[1] != -100
            )
            if labelled
        ]
        assert runs
        # Every answer ends its turn, and none holds a question.
        assert all(run.endswith("</s>") for run in runs)
        assert not any("?" in run or "USER" in run for run in runs)


def test_clips_tokenizer_ends_with_its_highest_id() -> None:
    """The text encoder pools where the id is highest, as OpenAI's does."""
    tokenizer = clip_tokenizer(random.Random(0))
    ids = tokenizer("A Red circle, on sand.").input_ids
    assert ids[-1] == max(tokenizer.get_vocab().values()) == tokenizer.eos_token_id
    assert ids[0] == tokenizer.bos_token_id
    written = "".join(tokenizer.convert_ids_to_tokens(ids[1:-1])).replace("Ġ", " ")
    assert written == " a red circle, on sand."


def test_optimise_finds_the_minimum() -> None:
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 1, bias=False)
    goal = torch.tensor([[0.5, -0.25, 0.125]])

    optimise(model, lambda: (model.weight - goal).square().sum(), steps=400, rate=0.05)
    torch.testing.assert_close(model.weight.detach(), goal, atol=0.01, rtol=0)
