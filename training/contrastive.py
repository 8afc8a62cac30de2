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

    _together: list[dict]  # micro-batches of the step that is about to begin
    _shares: list[Share]  # of those that are still to be trained on

    def get_batch_samples(
        self, epoch_iterator: Iterator, num_batches: int, device: torch.device
    ) -> tuple[list, Tensor | int | None]:
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        row_ids = [name for batch in batches for name in batch["row_ids"]]
        self._together, self._shares = [], []
        if len(batches) > 1:
            batches = [{**batch, "row_ids": row_ids} for batch in batches]
            self._together = [{n: v for n, v in b.items() if n != "row_ids"} for b in batches]
        return batches, items

    def losses(
        self, model: nn.Module, inputs: dict, num_items_in_batch: Tensor | int | None
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        objective = cast("ContrastiveObjective", self.model)
        if self._together:  # not before: a resumed run has its random state only now
            batches = [self._prepare_inputs(batch) for batch in self._together]
            self._together, self._shares = [], shares(model, objective.losses, batches)
        if not self._shares:
            told = objective.losses(model(**inputs))
            return told["loss"], told
        share = self._shares.pop(0)
        set_random_state(share.random_state)
        return share.loss(model(**inputs)), share.losses
