"""The miniature's base CLIP: open_clip's own architecture, blind to detail.

It sees pictures with alt texts only: it learns what things are and little of how they look.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any, cast

import numpy as np
import open_clip
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torchvision.transforms.v2.functional import pil_to_tensor
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast

from scripts.miniature.language import alt_text, edit_caption, long_caption
from scripts.miniature.optimise import optimise
from scripts.miniature.render import PICTURE_SIZE, render
from scripts.miniature.world import EDITS, random_edit, random_scene_of
from vision_tower.towers import load_tower, save_tower

# A patch covers a place of the scene. Finer patches learn slower and cost three times as much.
VISION = {"image_size": PICTURE_SIZE, "patch_size": 16, "width": 128, "layers": 6, "head_width": 32}
TEXT = {"context_length": 77, "width": 128, "heads": 4, "layers": 3, "hf_tokenizer_name": "."}
EMBEDDING_SIZE = 128
PREPROCESS = {
    "mean": list(open_clip.OPENAI_DATASET_MEAN),
    "std": list(open_clip.OPENAI_DATASET_STD),
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}
SCENES, SEED = 30_000, 0
CLIP_STEPS, CLIP_BATCH, CLIP_RATE = 6000, 128, 1e-3


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

    optimise(tower, loss_of_batch, CLIP_STEPS, CLIP_RATE)
    save_tower(tower, directory, {name: t.half() for name, t in tower.state_dict().items()})
