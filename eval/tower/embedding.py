"""Embedding many pictures and texts with a tower, in batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from PIL import Image
from torch import Tensor

from eval.bars import bar
from eval.benchmark import EmbeddingTower

BATCH = 64


@torch.inference_mode()
def embed_images(
    tower: EmbeddingTower, openers: Sequence[Callable[[], Image.Image]], title: str
) -> Tensor:
    """Unit-length features [N, D] on the CPU, fp32; pictures are opened batch by batch."""
    device = tower.logit_scale.device
    features: list[Tensor] = []
    for start in bar(range(0, len(openers), BATCH), title):
        batch = [tower.preprocess(opener()) for opener in openers[start : start + BATCH]]
        pixel_values_BCHW = torch.stack(batch).to(device)
        features.append(tower.encode_image(pixel_values_BCHW, normalize=True).float().cpu())
    return torch.cat(features)


@torch.inference_mode()
def embed_texts(tower: EmbeddingTower, texts: Sequence[str], title: str) -> Tensor:
    """Unit-length features [N, D] on the CPU, fp32."""
    device = tower.logit_scale.device
    features: list[Tensor] = []
    for start in bar(range(0, len(texts), BATCH), title):
        token_BL = tower.tokenizer(list(texts[start : start + BATCH])).to(device)
        features.append(tower.encode_text(token_BL, normalize=True).float().cpu())
    return torch.cat(features)
