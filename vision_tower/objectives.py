"""What the two tower stages minimise: modules that take a batch and return losses by name.

Shape letters: B captions, E edit pairs, N = B + 2E, L tokens, D embedding, W ranks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.distributed as dist
from jaxtyping import Float, Int
from torch import Tensor, nn

from vision_tower.losses import (
    EditFeatures,
    Match,
    Sigmoid,
    Softmax,
    clip_loss,
    cosine_distillation,
    mse_distillation,
    symmetric_loss,
)
from vision_tower.towers import Tower

EditLoss = Callable[[EditFeatures, Match], Tensor]

EDIT_IMAGES, EDIT_CAPTIONS = ("source_image", "edited_image"), ("source", "edited")
DISTILLATIONS = {"cosine": cosine_distillation, "mse": mse_distillation}


class DistillationObjective(nn.Module):
    """Stage 1: the student's pooled, projected features follow the frozen teacher's."""

    def __init__(
        self, student: nn.Module, teacher: nn.Module, distillation: Literal["cosine", "mse"]
    ) -> None:
        super().__init__()
        self.student, self.teacher = student, teacher.requires_grad_(False).eval()
        self.distillation = DISTILLATIONS[distillation]

    def train(self, mode: bool = True) -> DistillationObjective:
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(
        self, tokens: Int[Tensor, "B L"], student_tokens: Int[Tensor, "B L2"]
    ) -> dict[str, Tensor]:
        with torch.no_grad():
            teacher_BD = self.teacher(tokens)
        student_BD = self.student(student_tokens)
        return {"loss": self.distillation(student_BD.float(), teacher_BD.float())}


class ContrastiveObjective(nn.Module):
    """Stage 2: L = short L_short + long L_long + hard_negative L_HN, over all ranks' rows.

    Calling it encodes a batch; `losses` are of features, which may be of several batches. A part of
    weight 0 is neither encoded nor computed. Every rank must bring as many rows.
    """

    def __init__(
        self,
        tower: Tower,
        short: float = 1.0,
        long: float = 1.0,
        hard_negative: float = 1.0,
        edit_loss: EditLoss = symmetric_loss,
        match: type[Match] = Softmax,
    ) -> None:
        super().__init__()
        self.tower, self.edit_loss, self.match = tower, edit_loss, match
        self.weights = {"short": short, "long": long, "hard_negative": hard_negative}
        if min(self.weights.values()) < 0 or not any(self.weights.values()):
            raise ValueError(f"the weights {self.weights} must be >= 0, one of them > 0.")
        if match is Sigmoid and tower.logit_bias is None:
            raise ValueError(
                "the sigmoid loss needs a tower with a logit_bias, as SigLIP's have: this one was "
                "trained with softmax. Say --match softmax."
            )

    def activation_checkpointing_enable(self, **_: object) -> None:
        """The Trainer's --activation_checkpointing: recompute blocks in the backward pass."""
        self.tower.set_grad_checkpointing(True)

    def forward(
        self,
        pixel_values: Float[Tensor, "N 3 H W"],
        short_tokens: Int[Tensor, "N L"],
        long_tokens: Int[Tensor, "B L2"],
    ) -> dict[str, Tensor]:
        """Normalised features by name, [B, D] or [E, D], and the scalars that `match` takes.

        Rows of pictures and of short texts: B captions, then E sources, then E edited.
        """
        short, long, hard_negative = (weight > 0 for weight in self.weights.values())
        captions = len(long_tokens)
        pairs = (len(pixel_values) - captions) // 2 if hard_negative else 0
        end = captions + 2 * pairs
        images = pixel_values[0 if short or long else captions : end]
        texts = [short_tokens[0 if short else captions : end], long_tokens[: captions * long]]
        features, scalars = self.tower(images, texts)
        sizes = [captions * (short or long), pairs, pairs, captions * short, pairs, pairs]
        parts = torch.cat(features).split([*sizes, captions * long])
        named = zip(("image", *EDIT_IMAGES, "short", *EDIT_CAPTIONS, "long"), parts, strict=True)
        told = {name: part for name, part in named if len(part)}
        return told | {name: scalars[name] for name in self.match._fields}

    def losses(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """The weighted sum as "loss", each part by its name, and the scale."""
        told = dict(features)
        match, losses = self.match(**{name: told.pop(name) for name in self.match._fields}), {}
        part = dict(zip(told, gather_ranks(list(told.values())), strict=True))
        # Under autocast the logits would be bf16, whose steps near 100 are half a unit.
        with torch.autocast(match.scale.device.type, enabled=False):
            if self.weights["short"]:
                losses["short"] = clip_loss(part["image"], part["short"], match)
            if self.weights["long"]:
                losses["long"] = clip_loss(part["image"], part["long"], match)
            if self.weights["hard_negative"]:
                pairs = EditFeatures(*(part[name] for name in (*EDIT_IMAGES, *EDIT_CAPTIONS)))
                losses["hard_negative"] = self.edit_loss(pairs, match)
        total = torch.stack([self.weights[name] * loss for name, loss in losses.items()]).sum()
        return {"loss": total, **losses, "logit_scale": match.scale}


class GatherRanks(torch.autograd.Function):
    """All ranks' rows, so that negatives are global.

    Every rank computes the same loss from the same gathered rows. The sum over ranks of the
    gradients towards this rank's rows is thus W times its own, with nothing to send; the mean over
    ranks that DDP and ZeRO take afterwards makes it the gradient of the one big batch.
    """

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, rows: Float[Tensor, "rows D"]
    ) -> Float[Tensor, "W rows D"]:
        gathered = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(gathered, rows.contiguous())
        return torch.stack(gathered)

    @staticmethod
    def backward(
        ctx: torch.autograd.function.FunctionCtx, gradient: Float[Tensor, "W rows D"]
    ) -> Float[Tensor, "rows D"]:
        return gradient[dist.get_rank()] * dist.get_world_size()


def gather_ranks(parts: list[Float[Tensor, "_ D"]]) -> list[Float[Tensor, "_ D"]]:
    """Each part's rows of every rank, with gradient, by one exchange; the parts themselves where
    there is no process group."""
    if not dist.is_initialized():
        return parts
    rows = GatherRanks.apply(torch.cat(parts)).split([len(part) for part in parts], dim=1)
    return [part.flatten(0, 1) for part in rows]
