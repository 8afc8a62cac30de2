"""A CLIP of a few thousand parameters and a handful of captions and edit pairs, on disk."""

from __future__ import annotations

import io
import json
from pathlib import Path

import datasets
import numpy as np
import open_clip
import torch
from PIL import Image
from safetensors.torch import save_file

from vision_tower.captions import Captions, StoredCaption

SIZE = 16
WORDS = [
    "red",
    "green",
    "blue",
    "large",
    "small",
    "cube",
    "ball",
    "cone",
    "left",
    "right",
    "above",
    "below",
    "metal",
    "wood",
    "dull",
]
VISION = {"image_size": SIZE, "patch_size": 8, "width": 16, "layers": 2, "head_width": 8}
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2}
PREPROCESS = {
    "mean": [0.5, 0.4, 0.3],
    "std": [0.2, 0.3, 0.4],
    "interpolation": "bicubic",
    "resize_mode": "shortest",
    "fill_color": 0,
}


def write_tower(directory: Path, **changes: object) -> Path:
    """An open_clip CLIP with random weights in "local-dir:" layout. `changes` go to model_cfg."""
    torch.manual_seed(0)
    model_cfg = {
        "embed_dim": 12,
        "quick_gelu": True,
        "vision_cfg": VISION,
        "text_cfg": TEXT,
        **changes,
    }
    sizes = {name: value for name, value in model_cfg.items() if name != "custom_text"}
    kind = open_clip.CustomTextCLIP if model_cfg.get("custom_text") else open_clip.CLIP
    directory.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.contiguous() for name, tensor in kind(**sizes).state_dict().items()}
    save_file(state, directory / "open_clip_model.safetensors")
    config = {"model_cfg": model_cfg, "preprocess_cfg": PREPROCESS}
    (directory / "open_clip_config.json").write_text(json.dumps(config))
    return directory


def sentence(rng: np.random.Generator, words: int) -> str:
    return " ".join(rng.choice(WORDS, words))


def picture(rng: np.random.Generator) -> Image.Image:
    return Image.fromarray(rng.integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8))


def encoded(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "png")
    return buffer.getvalue()


def write_captions(directory: Path, rows: int) -> Path:
    """`captions.json` and `images/` in ShareGPT4V's format; returns the json's path."""
    rng = np.random.default_rng(0)
    (directory / "images").mkdir(parents=True, exist_ok=True)
    found = []
    for row in range(rows):
        picture(rng).save(directory / f"images/{row}.png")
        caption = f"{sentence(rng, 5)}. {sentence(rng, int(rng.integers(20, 120)))}."
        turns = [{"from": "human", "value": "<image>"}, {"from": "gpt", "value": caption}]
        found.append({"id": f"c{row}", "image": f"images/{row}.png", "conversations": turns})
    (directory / "captions.json").write_text(json.dumps(found))
    return directory / "captions.json"


def edit_row(rng: np.random.Generator) -> dict:
    """One row with UltraEdit's columns."""
    return {
        "source_image": {"bytes": encoded(picture(rng)), "path": None},
        "edited_image": {"bytes": encoded(picture(rng)), "path": None},
        "source_caption": sentence(rng, 6),
        "target_caption": sentence(rng, 7),
        "edit_prompt": sentence(rng, 3),
    }


def write_edits(file: Path, rows: int) -> Path:
    rng = np.random.default_rng(1)
    datasets.Dataset.from_list([edit_row(rng) for _ in range(rows)]).to_parquet(file)
    return file


def stored_captions(*arguments) -> list[StoredCaption]:
    """All rows of `Captions(*arguments)`, which are looked at first."""
    captions = Captions(*arguments)
    captions.check()
    return [captions.stored(row) for row in range(len(captions))]
