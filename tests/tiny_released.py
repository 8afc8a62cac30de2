"""Checkpoints of a few thousand weights, written as CLIP-IN, TULIP and Long-CLIP release theirs.

Each writer returns the weights by the names that the release's own text encoder has in the code.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import Tensor

from tests.tiny_tower import TEXT, VISION

SIZES: dict[str, Any] = {"embed_dim": 12, "vision_cfg": VISION, "text_cfg": TEXT}
ARCHITECTURES = {"tiny": SIZES, "tiny-quickgelu": {**SIZES, "quick_gelu": True}}
WIDTH = TEXT["width"]


def random_clip() -> open_clip.CLIP:
    """Weights large enough for positions and activations to matter."""
    torch.manual_seed(0)
    model = open_clip.CLIP(**ARCHITECTURES["tiny-quickgelu"]).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def wrapped(state: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    return {"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}


def write_clip_in(file: Path) -> dict[str, Tensor]:
    """Of a CustomTextCLIP whose text encoder has no table of positions."""
    state = random_clip().state_dict()
    del state["positional_embedding"]
    named = {
        name if name.startswith(("visual.", "logit_")) else f"text.{name}": tensor
        for name, tensor in state.items()
    }
    torch.save(wrapped(named), file)
    return state


def write_tulip(file: Path) -> dict[str, Tensor]:
    """As open_clip's trainer saves a CLIP, whose table of positions nothing reads any more."""
    state = random_clip().state_dict()
    optimizer = {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 1e-5}]}
    torch.save({"epoch": 1, "name": "dynamic_ntk", **wrapped(state), "optimizer": optimizer}, file)
    return state


def write_long_clip(file: Path) -> dict[str, Tensor]:
    """The bare state_dict; the masks of the two tables are no part of it."""
    state = dict(random_clip().state_dict())
    for name in ("positional_embedding", "positional_embedding_res"):
        state[name] = 0.3 * torch.randn(248, WIDTH)
    torch.save(state, file)
    return state
