"""The training loop of the miniature's base models."""

from __future__ import annotations

from collections.abc import Callable

import torch
from tqdm import tqdm
from transformers import get_cosine_schedule_with_warmup


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
