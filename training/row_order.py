"""Orders of the training rows that a resumed run repeats: shuffled, or in batches of like length as
LLaVA-1.5 trains them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Sized
from typing import Protocol, cast

import torch
from torch.utils.data import Dataset, DistributedSampler, Sampler
from transformers import TrainerCallback

# Batches sorted together. More of them leave less padding but make the order less random.
WINDOW = 16
# Epochs are added to a seed, as DistributedSampler does; none of one seed may be one of the next.
SEED_STRIDE = 100_000


class RowOrder(Protocol):
    """A sampler whose order is a function of the epoch, the same on all processes: accelerate deals
    its batches out to them."""

    def set_epoch(self, epoch: int) -> None: ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator: ...


def row_order(rows: Dataset | Sized, seed: int, shuffle: bool = True) -> RowOrder:
    """All rows, in an order by (seed, epoch), or as they stand."""
    return DistributedSampler(
        cast("Dataset", rows), num_replicas=1, rank=0, shuffle=shuffle, seed=SEED_STRIDE * seed
    )


class TellEpoch(TrainerCallback):
    """Tells the sampler itself which epoch begins. Trainer tells the batch samplers around it; a
    resumed run of several processes has one more of them than it looks through (5.23), and would
    go on in the order of the first epoch."""

    def __init__(self, sampler: RowOrder) -> None:
        self.sampler = sampler

    def on_epoch_begin(self, args, state, control, **kwargs) -> None:  # noqa: ANN001, ANN003
        self.sampler.set_epoch(int(state.epoch or 0))


class LengthGroups(Sampler[int]):
    """Row indices whose consecutive runs of `batch_size` have like lengths.

    Rows are shuffled, each window of rows is sorted by length and cut into batches, and the batches
    of a window are shuffled. The very first batch is the one with the longest row: if memory does
    not suffice, it shows at once. The order depends on `seed` and epoch alone.

    Args:
        lengths: of each row, in any unit.
        batch_size: rows of one optimizer step, over all processes.
        seed: of the order.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self.lengths = lengths
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the dataloader before each epoch, a resumed one too."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(SEED_STRIDE * self.seed + self.epoch)
        order = torch.randperm(len(self.lengths), generator=generator).tolist()
        # What fills no batch stays last, so that every other batch is whole.
        whole = len(order) - len(order) % self.batch_size
        order, rest = order[:whole], order[whole:]
        batches: list[list[int]] = []
        window = WINDOW * self.batch_size
        for start in range(0, len(order), window):
            rows = sorted(order[start : start + window], key=self.lengths.__getitem__)
            cut = [rows[at : at + self.batch_size] for at in range(0, len(rows), self.batch_size)]
            batches += [cut[at] for at in torch.randperm(len(cut), generator=generator).tolist()]
        if batches:
            longest = max(range(len(batches)), key=lambda at: self.lengths[batches[at][-1]])
            batches.insert(0, batches.pop(longest))
        return iter([*(row for batch in batches for row in batch), *rest])
