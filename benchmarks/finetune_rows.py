"""A LLaVA of random weights and conversations of lengths as LLaVA's mixture has them, on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import sentencepiece
import torch
from PIL import Image
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from mllm.assemble import assemble

# What questions and answers are made of.
WORDS = ("the", "red", "large", "circle", "is", "left", "of", "a", "blue", "square", "on", "grass")
TEXT_ONLY = 0.4
VOCABULARY = 700  # of the tokenizer at most


class Sizes(NamedTuple):
    """Of the LLaVA; pictures are 336 x 336 in patches of 14, 576 tokens, as LLaVA-1.5's."""

    width: int
    layers: int
    vocabulary: int
    tower_width: int
    tower_layers: int


SIZES = {
    "small": Sizes(512, 8, 32_000, 256, 4),
    "7b": Sizes(4096, 32, 32_000, 1024, 24),
    "test": Sizes(32, 2, 1_000, 16, 2),
}


def write_llava(folder: Path, sizes: Sizes, side: int = 336, text: str = " ".join(WORDS)) -> Path:
    """A stock LLaVA directory in `folder`; its tokenizer knows the words of `text`."""
    torch.manual_seed(0)
    vision = CLIPVisionConfig(
        hidden_size=sizes.tower_width,
        intermediate_size=4 * sizes.tower_width,
        num_hidden_layers=sizes.tower_layers,
        num_attention_heads=max(1, sizes.tower_width // 64),
        image_size=side,
        patch_size=14,
    )
    square = {"height": side, "width": side}
    CLIPVisionModel(vision).save_pretrained(folder / "tower")
    CLIPImageProcessor(size={"shortest_edge": side}, crop_size=square).save_pretrained(
        folder / "tower"
    )
    config = LlamaConfig(
        vocab_size=sizes.vocabulary,
        hidden_size=sizes.width,
        intermediate_size=round(sizes.width * 2.6875),  # Llama's 11,008 of 4,096
        num_hidden_layers=sizes.layers,
        num_attention_heads=max(1, sizes.width // 64),
        max_position_embeddings=4096,
        bos_token_id=1,
        eos_token_id=2,
    )
    LlamaForCausalLM(config).save_pretrained(folder / "llm")
    _write_tokenizer(folder / "llm", text)
    assemble(str(folder / "tower"), str(folder / "llm"), folder / "mllm")
    return folder / "mllm"


def _write_tokenizer(folder: Path, text: str) -> None:
    """Of Llama's kind, with a token a word."""
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter([text] * 100),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=VOCABULARY,
        model_type="bpe",
        byte_fallback=True,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    settings = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "legacy": False}
    words = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    told = json.dumps({**settings, **words})
    (folder / "tokenizer_config.json").write_text(told, encoding="utf-8")


def write_rows(folder: Path, count: int, side: int = 336) -> Path:
    """rows.json in LLaVA's form: two fifths without a picture, one to five turns, answers from a
    word to some hundreds."""
    random = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(count):
        turns = []
        for _ in range(int(random.integers(1, 6))):
            length = min(int(random.lognormal(3.0, 1.2)) + 1, 300)
            turns += [
                {"from": "human", "value": _said(random, int(random.integers(5, 30)))},
                {"from": "gpt", "value": _said(random, length)},
            ]
        row: dict[str, Any] = {"id": number, "conversations": turns}
        if random.random() >= TEXT_ONLY:
            _add_picture(row, folder, random, side)
        rows.append(row)
    return _written(folder, rows)


def write_captions(folder: Path, count: int, side: int = 336) -> Path:
    """rows.json as LLaVA pretrains on: a picture in every row, one short request and a caption of
    five to 25 words."""
    random = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(count):
        turns = [
            {"from": "human", "value": _said(random, 6)},
            {"from": "gpt", "value": _said(random, int(random.integers(5, 26)))},
        ]
        rows.append({"id": number, "conversations": turns})
        _add_picture(rows[-1], folder, random, side)
    return _written(folder, rows)


def _add_picture(row: dict[str, Any], folder: Path, random: np.random.Generator, side: int) -> None:
    first = row["conversations"][0]
    first["value"] = f"<image>\n{first['value']}"
    row["image"] = f"{row['id']}.jpg"
    pixels = random.integers(0, 255, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / row["image"])


def _written(folder: Path, rows: list[dict[str, Any]]) -> Path:
    (folder / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    return folder / "rows.json"


def _said(random: np.random.Generator, words: int) -> str:
    return " ".join(random.choice(WORDS, words))
