"""A tiny tower, a tiny language model and a few conversations on disk, made for the tests."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import sentencepiece
import torch
from PIL import Image
from transformers import (
    AutoProcessor,
    AutoTokenizer,
    BatchFeature,
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaForConditionalGeneration,
    SiglipImageProcessor,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from mllm.assemble import assemble

IMAGE_SIZE = 16
PATCH_SIZE = 8
WORDS = "what is in the picture how many objects are there a red blue circle square yes no one two"


def write_tower(directory: Path, family: str = "clip") -> Path:
    """A vision model with image processor; in `vision/`, as a tower directory keeps it."""
    torch.manual_seed(1)
    shape = {
        "hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 3,
        "num_attention_heads": 2, "image_size": IMAGE_SIZE, "patch_size": PATCH_SIZE,
    }  # fmt: skip
    square = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    if family == "clip":
        tower = CLIPVisionModel(CLIPVisionConfig(**shape))
        processor = CLIPImageProcessor(size={"shortest_edge": IMAGE_SIZE}, crop_size=square)
    else:
        tower = SiglipVisionModel(SiglipVisionConfig(**shape))
        processor = SiglipImageProcessor(size=square)
    tower.save_pretrained(directory / "vision")
    processor.save_pretrained(directory / "vision")
    return directory


def write_language_model(directory: Path, width: int = 32) -> Path:
    """A Llama with a sentencepiece tokenizer of Vicuna's kind: BOS added, no pad token."""
    directory.mkdir(parents=True, exist_ok=True)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([WORDS, "USER ASSISTANT", WORDS.upper()] * 20),
        model_prefix=str(directory / "tokenizer"),
        vocab_size=330,
        model_type="bpe",
        byte_fallback=True,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (directory / "tokenizer.vocab").unlink()
    settings = {
        "tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "add_eos_token": False,
        "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "legacy": False,
    }  # fmt: skip
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    vocabulary = len(AutoTokenizer.from_pretrained(directory))
    torch.manual_seed(2)
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=512,
        bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(directory)
    # Vicuna's own generation config: a temperature that greedy decoding may not have.
    (directory / "generation_config.json").write_text(
        json.dumps({"bos_token_id": 1, "eos_token_id": 2, "temperature": 0.9, "top_p": 0.6})
    )
    return directory


def write_llava(directory: Path) -> Path:
    """A LLaVA of both, whose weights draw strongly: its answers are babble, but each depends on all
    of picture and question."""
    tower, language_model = write_tower(directory / "tower"), write_language_model(directory / "lm")
    assemble(str(tower), str(language_model), directory / "mllm", system="")
    model = LlavaForConditionalGeneration.from_pretrained(directory / "mllm")
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
    model.save_pretrained(directory / "mllm")
    return directory / "mllm"


def picture(seed: int, width: int = IMAGE_SIZE, height: int = IMAGE_SIZE) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def row(identity: str, image: str | None, *turns: str) -> dict:
    """One row of LLaVA json; the placeholder goes before the first question."""
    values = [f"<image>\n{turns[0]}", *turns[1:]] if image else list(turns)
    conversations = [
        {"from": ("human", "gpt")[position % 2], "value": value}
        for position, value in enumerate(values)
    ]
    return {"id": identity, **({"image": image} if image else {}), "conversations": conversations}


def write_rows(directory: Path, rows: list[dict], name: str = "rows.json") -> Path:
    """Rows and one picture for each image they name, under `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    for position, entry in enumerate(rows):
        if "image" in entry:
            picture(position).save(directory / entry["image"])
    (directory / name).write_text(json.dumps(rows))
    return directory / name


def example_rows(count: int = 16) -> list[dict]:
    """Pictures and text alone, one turn and two, in a fixed mixture."""
    rows = []
    for number in range(count):
        image = None if number % 4 == 3 else f"{number}.png"
        turns = ["what is in the picture", f"a {('red', 'blue')[number % 2]} circle"]
        if number % 3 == 0:
            turns += ["how many objects are there", ("one", "two")[number % 2]]
        rows.append(row(f"r{number}", image, *turns))
    return rows


def asked(directory: Path) -> BatchFeature:
    """The first picture and "what", as a LLaVA directory's model takes it."""
    text = "<s>USER: <image>\nwhat ASSISTANT:"
    processor = AutoProcessor.from_pretrained(directory)
    return processor(images=picture(0), text=text, return_tensors="pt")


def likeliest(model: torch.nn.Module, directory: Path, tokens: int) -> str:
    """The answer to it, each token picked from the logits by hand."""
    inputs = asked(directory)
    ids = inputs["input_ids"]
    for _ in range(tokens):
        with torch.no_grad():
            told = model.eval()(input_ids=ids, pixel_values=inputs["pixel_values"])
        ids = torch.cat([ids, told.logits[:, -1:].argmax(-1)], dim=1)
    tokenizer = AutoProcessor.from_pretrained(directory).tokenizer
    return tokenizer.decode(ids[0, -tokens:], skip_special_tokens=True).strip()
