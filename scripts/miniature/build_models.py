"""Build the miniature's base models: a small CLIP blind to detail, and a small Llama.

    python scripts/miniature/build_models.py clip scripts/miniature/models/clip
    python scripts/miniature/build_models.py llm  scripts/miniature/models/llm

The CLIP (open_clip's own architecture) sees pictures with alt texts only: it learns what things are
and little of how they look. The Llama reads text only; the one in the repository went through its
course in several runs, while the chapters' lengths were being found. Weights are kept in half
precision (the CLIP's vision/ in single); building takes about an hour of one core each.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import open_clip
import sentencepiece
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torchvision.transforms.v2.functional import pil_to_tensor
from tqdm import tqdm
from transformers import (
    AutoTokenizer,
    BatchEncoding,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    get_cosine_schedule_with_warmup,
)

from mllm.template import prepare_tokenizer
from scripts.miniature.language import alt_text, edit_caption, long_caption
from scripts.miniature.lessons import COURSE, Chapter, Messages, conversation
from scripts.miniature.render import PICTURE_SIZE, render
from scripts.miniature.world import EDITS, random_edit, random_scene_of
from vision_tower.towers import load_tower, save_tower

VISION = {"image_size": PICTURE_SIZE, "patch_size": 8, "width": 128, "layers": 5, "head_width": 32}
TEXT = {"context_length": 77, "width": 128, "heads": 4, "layers": 3, "hf_tokenizer_name": "."}
EMBEDDING_SIZE = 128
PREPROCESS = {
    "mean": list(open_clip.OPENAI_DATASET_MEAN),
    "std": list(open_clip.OPENAI_DATASET_STD),
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}
SCENES, SEED = 30_000, 0
CLIP_ROUNDS, CLIP_BATCH, CLIP_RATE = (1600, 2000), 128, 1e-3  # rounds of steps, each with its decay
LLM_RATE = 2e-3


def optimise(
    model: torch.nn.Module,
    loss_of_batch: Callable[[], torch.Tensor],
    steps: int,
    rate: float,
    warmup_share: float = 0.05,
) -> None:
    """AdamW with warm-up and cosine decay; ``loss_of_batch`` draws a batch and takes its loss."""
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.05, fused=True
    )
    schedule = get_cosine_schedule_with_warmup(optimizer, int(warmup_share * steps), steps)
    mean, bar = None, tqdm(range(steps), mininterval=5)
    for _ in bar:
        loss = loss_of_batch()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        mean = loss.item() if mean is None else 0.98 * mean + 0.02 * loss.item()
        bar.set_postfix(loss=f"{mean:.3f}")


def clip_tokenizer(rng: random.Random) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer as CLIP has; the end token has the highest id (argmax pooling)."""
    corpus = []
    for _ in range(4000):
        scene = random_scene_of(rng, held_out=False)
        edit = random_edit(rng, rng.choice(list(EDITS)), held_out=False)
        corpus += [f"a photo of {long_caption(scene, rng)}", edit_caption(edit, edit.source)]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    trainer = trainers.BpeTrainer(
        vocab_size=510,
        special_tokens=["<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.add_special_tokens(["<|startoftext|>", "<|endoftext|>"])
    ends = [(t, tokenizer.token_to_id(t)) for t in ("<|startoftext|>", "<|endoftext|>")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|startoftext|> $A <|endoftext|>", special_tokens=ends
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|startoftext|>",
        eos_token="<|endoftext|>",
        pad_token="<pad>",
    )


def build_clip(directory: Path) -> None:
    rng, generator = random.Random(SEED), np.random.default_rng(SEED)
    tokenizer = clip_tokenizer(rng)
    tokenizer.save_pretrained(directory)
    config = {
        "embed_dim": EMBEDDING_SIZE,
        "custom_text": True,
        "vision_cfg": VISION,
        "text_cfg": TEXT | {"vocab_size": len(tokenizer)},
    }
    document = json.dumps({"model_cfg": config, "preprocess_cfg": PREPROCESS}, indent=2)
    (directory / "open_clip_config.json").write_text(document + "\n")
    scenes = [random_scene_of(rng, held_out=False) for _ in tqdm(range(SCENES), "scenes")]
    pictures = torch.stack(
        [pil_to_tensor(render(scene, generator)) for scene in tqdm(scenes, "pictures")]
    )
    torch.manual_seed(SEED)
    untrained = open_clip.CustomTextCLIP(EMBEDDING_SIZE, cast("Any", VISION), config["text_cfg"])
    save_file(untrained.state_dict(), directory / "open_clip_model.safetensors")
    tower = load_tower(str(directory))
    contrast = open_clip.ClipLoss()
    mean, std = (torch.tensor(PREPROCESS[key]).view(3, 1, 1) for key in ("mean", "std"))

    def loss_of_batch() -> torch.Tensor:
        rows = [rng.randrange(SCENES) for _ in range(CLIP_BATCH)]
        token_BL = tower.tokenizer([alt_text(scenes[row], rng) for row in rows])
        pixel_values_BCHW = (pictures[rows].float() / 255 - mean) / std
        image_BD = tower.encode_image(pixel_values_BCHW, normalize=True)
        text_BD = tower.encode_text(token_BL, normalize=True)
        return contrast(image_BD, text_BD, tower.scale())

    for steps in CLIP_ROUNDS:
        optimise(tower, loss_of_batch, steps, CLIP_RATE)
    save_tower(tower, directory, {name: t.half() for name, t in tower.state_dict().items()})


def llm_tokenizer(directory: Path, rng: random.Random) -> PreTrainedTokenizerFast:
    """A sentencepiece model in Llama's form; digits and newlines fall back to bytes."""
    turns = (turn["content"] for _ in range(3000) for turn in conversation(rng, progress=1.0))
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(f"USER: {line} ASSISTANT:" for t in turns for line in t.split("\n")),
        model_prefix=str(directory / "tokenizer"),
        vocab_size=640,
        model_type="bpe",
        byte_fallback=True,
        hard_vocab_limit=False,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    (directory / "tokenizer.vocab").unlink()
    settings = {"tokenizer_class": "LlamaTokenizer", "pad_token": "<unk>", "legacy": False}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    return AutoTokenizer.from_pretrained(directory)


def lesson_batch(
    tokenizer: PreTrainedTokenizerFast, lessons: list[Messages]
) -> dict[str, torch.Tensor]:
    """Lessons, padded; only answers are labelled.

    What a scene holds is chance, and guessing it teaches nothing.
    """
    encoded = tokenizer.apply_chat_template(
        lessons,
        return_dict=True,
        return_assistant_tokens_mask=True,
        return_tensors="pt",
        padding=True,
    )
    told = dict(cast("BatchEncoding", encoded))
    answers_BL = told.pop("assistant_masks")
    return {**told, "labels": told["input_ids"].masked_fill(answers_BL == 0, -100)}


def study(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    chapter: Chapter,
    rng: random.Random,
) -> None:
    """One chapter of the course, warmed up slowly: too fast a start unlearns the chapter before."""
    steps = iter(range(chapter.steps))

    def loss_of_batch() -> torch.Tensor:
        progress = next(steps) / chapter.steps
        lessons = [chapter.lesson(rng, progress) for _ in range(chapter.documents)]
        return model(**lesson_batch(tokenizer, lessons), use_cache=False).loss

    optimise(model, loss_of_batch, chapter.steps, LLM_RATE, warmup_share=0.2)


def build_llm(directory: Path) -> None:
    rng = random.Random(SEED)
    tokenizer = llm_tokenizer(directory, rng)
    torch.manual_seed(SEED)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=math.ceil(len(tokenizer) / 64) * 64,
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=4,
            num_attention_heads=4,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            # As 1/sqrt(width): at the usual 0.02 so narrow a model takes thousands of steps until
            # it begins to look words up in what it has read.
            initializer_range=0.08,
            # Llama 3's: most dimensions hardly turn over so few tokens, and match words by meaning.
            rope_parameters={"rope_type": "default", "rope_theta": 500_000.0},
            bos_token_id=cast("int", tokenizer.bos_token_id),
            eos_token_id=cast("int", tokenizer.eos_token_id),
            pad_token_id=cast("int", tokenizer.pad_token_id),
        )
    )
    chat = copy.deepcopy(tokenizer)
    prepare_tokenizer(chat, system="")
    for chapter in COURSE:
        study(model, chat, chapter, rng)
    model.half().save_pretrained(directory)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("model", choices=("clip", "llm"))
    parser.add_argument("directory", type=Path)
    arguments = parser.parse_args()
    arguments.directory.mkdir(parents=True, exist_ok=True)
    {"clip": build_clip, "llm": build_llm}[arguments.model](arguments.directory)


if __name__ == "__main__":
    main()
