"""Peak memory of a contrastive loss, forward and backward, beyond that of the features."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import open_clip
import torch
from torch import Tensor
from torch.nn import functional as F

from vision_tower.losses import Softmax, clip_loss

LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "fovea": lambda image_BD, text_BD, scale: clip_loss(image_BD, text_BD, Softmax(scale)),
    "open_clip": open_clip.ClipLoss(),
}


def memory_by_batch(
    loss: str, batches: Sequence[int], width: int, device: str
) -> dict[int, float | None]:
    """MiB of `LOSSES[loss]` by rows of the batch, each measured in a process of its own. None where
    memory that grows with the square of the batch would not suffice."""
    told: dict[int, float | None] = {}
    mib_per_pair = 0.0
    for rows in sorted(batches):
        told[rows] = None
        if mib_per_pair * rows**2 < _available(device):
            # A new process, not a fork: that would begin with its parent's peak.
            spawn = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(1, spawn) as process:
                mib = process.submit(peak, loss, rows, width, device).result()
            told[rows], mib_per_pair = mib, mib / rows**2
    return told


def peak(loss: str, rows: int, width: int, device: str) -> float:
    """MiB that one forward and backward pass adds at most. On CPU it reads Linux' own account of
    this process, which must not have held more before."""
    _run(loss, 8, width, device)()  # the workspaces of matrix products
    run = _run(loss, rows, width, device)
    if device == "cpu":
        before = _kib("/proc/self/status", "VmRSS")
        run()
        return (_kib("/proc/self/status", "VmHWM") - before) / 1024
    before = torch.accelerator.memory_allocated()
    torch.accelerator.reset_peak_memory_stats()
    run()
    return (torch.accelerator.max_memory_allocated() - before) / 2**20


def _run(loss: str, rows: int, width: int, device: str) -> Callable[[], None]:
    generator = torch.Generator().manual_seed(0)
    image_BD, text_BD = (
        F.normalize(torch.randn(rows, width, generator=generator), dim=1)
        .to(device)
        .requires_grad_()
        for _ in range(2)
    )
    scale = torch.tensor(20.0, device=device)
    return lambda: LOSSES[loss](image_BD, text_BD, scale).backward()


def _available(device: str) -> float:
    if device == "cpu":
        return _kib("/proc/meminfo", "MemAvailable") / 1024
    return torch.accelerator.get_memory_info()[0] / 2**20


def _kib(account: str, name: str) -> int:
    lines = Path(account).read_text(encoding="utf-8").splitlines()
    [told] = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return int(told)
