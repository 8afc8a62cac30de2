"""The Trainer of contrastive stages: negatives are all rows of a step, over devices and
micro-batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

import torch
from torch import Tensor, nn

from training.stage import StageTrainer
from vision_tower.grad_cache import Share, set_random_state, shares
from vision_tower.objectives import ContrastiveObjective


class ContrastiveTrainer(StageTrainer):
    """Trains a `ContrastiveObjective`.

    With gradient_accumulation_steps > 1 the micro-batches of a step are one batch to the loss: rows
    a device needs not hold at once are encoded twice, and there are never fewer negatives.
    """

    def get_batch_samples(
        self, epoch_iterator: Iterator, num_batches: int, device: torch.device
    ) -> tuple[list, Tensor | int | None]:
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        if len(batches) > 1:
            row_ids = [name for batch in batches for name in batch.pop("row_ids")]
            batches = [self._prepare_inputs(batch) for batch in batches]
            model = cast("nn.Module", self.model_wrapped).train()
            parts = shares(model, self._objective.losses, batches)
            for batch, share in zip(batches, parts, strict=True):
                batch |= {"row_ids": row_ids, "share": share}
        return batches, items

    @property
    def _objective(self) -> ContrastiveObjective:
        return cast("ContrastiveObjective", self.model)

    def losses(
        self, model: nn.Module, inputs: dict, num_items_in_batch: Tensor | int | None
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        share: Share | None = inputs.pop("share", None)
        if share is None:
            told = self._objective.losses(model(**inputs))
            return told["loss"], told
        set_random_state(share.random_state)
        return share.loss(model(**inputs)), share.losses
