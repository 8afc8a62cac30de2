"""Weights of towers by name: as open_clip's files have them, and averaged."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def averaged_weights(
    start: Mapping[str, Tensor], trained: Mapping[str, Tensor], alpha: float
) -> dict[str, Tensor]:
    """(1 - alpha) * start + alpha * trained, WiSE-FT's way (arXiv 2109.01903) to keep what the
    start could do. Raises ValueError for weights of different towers, or alpha outside 0 to 1."""
    if {k: v.shape for k, v in start.items()} != {k: v.shape for k, v in trained.items()}:
        raise ValueError("the two towers have different weights: average one with its own start.")
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is between 0 (the start) and 1 (the trained tower), not {alpha}.")
    return {
        name: torch.lerp(start[name].float(), tensor.float(), alpha).to(tensor.dtype)
        for name, tensor in trained.items()
    }


def to_disk(state: Mapping[str, Tensor], model_cfg: Mapping) -> dict[str, Tensor]:
    """open_clip's names and shapes: its CLIP keeps the text encoder's parameters at the top, its
    CustomTextCLIP in `text.`."""
    prefix = "" if model_cfg.get("custom_text") else "text."
    shape = (1,) if model_cfg.get("nonscalar_logit_scale") else ()
    return {
        name.removeprefix(prefix): tensor.reshape(shape) if name.startswith("logit_") else tensor
        for name, tensor in state.items()
    }


def to_memory(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Back to the names of `Tower.state_dict()`."""
    return {
        name if name.startswith(("visual.", "text.", "logit_")) else f"text.{name}": (
            tensor.reshape(1) if name.startswith("logit_") else tensor
        )
        for name, tensor in state.items()
    }
