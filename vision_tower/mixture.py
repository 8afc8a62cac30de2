"""Which rows of several weighted sets meet in a step: a function of (seed, step), which a resumed
run repeats whatever the number of workers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Sized
from functools import lru_cache
from itertools import accumulate

import numpy as np
from torch.utils.data import Sampler


class Mixture(Sampler[int]):
    """Rows of several sets, counted through as if they were one.

    A set of weight w gives about w times its rows an epoch, the same number in each step. Each set
    is shuffled on its own without end; a shuffle ends where the next whole step would not fit, so
    no step holds a row twice, and the rows left over differ from one shuffle to the next.

    Args:
        sets: of rows.
        weights: of each set; 1 is one pass over it an epoch.
        batch_size: rows of a step, over all processes and micro-batches.
        seed: any key of the order.
        what: the rows' name in errors.

    Raises ValueError if there are fewer rows than a step takes, or a set is too small or too
    lightly weighted to have its share of a step.
    """

    def __init__(
        self,
        sets: Sequence[Sized],
        weights: Sequence[float],
        batch_size: int,
        seed: tuple[int, ...],
        what: str,
    ) -> None:
        rows = [len(part) for part in sets]
        if sum(rows) < batch_size:
            raise ValueError(
                f"one step takes {batch_size} {what} rows over all processes and there are only "
                f"{sum(rows)}: lower the batch size or give more files."
            )
        self.rows, self.batch_size, self.seed, self.epoch = rows, batch_size, seed, 0
        seen = np.multiply(rows, weights)
        self.steps = int(seen.sum()) // batch_size if batch_size else 0  # of an epoch
        if batch_size and not self.steps:
            raise ValueError(
                f"with the weights {', '.join(map(str, weights))} an epoch has not one step of "
                f"{batch_size} {what} rows: raise them or lower the batch size."
            )
        self.shares = _shares(seen, batch_size)
        for number, (has, share) in enumerate(zip(rows, self.shares, strict=True)):
            if not share <= has or (batch_size and not share):
                raise ValueError(
                    f"the {what} entry {number}, of weight {weights[number]:g}, would give {share} "
                    f"of a step's {batch_size} rows, and has {has}: change weights or batch size."
                )
        self._order = lru_cache(maxsize=len(rows))(self._shuffled)

    def __str__(self) -> str:
        """'1246901 rows, 2048 a step' and, of a mixture, what each set gives."""
        told = f"{sum(self.rows)} rows, {self.batch_size} a step"
        mixed = ", ".join(
            f"{share} of {rows}, {share * self.steps / rows:.2g} times an epoch"
            for rows, share in zip(self.rows, self.shares, strict=True)
        )
        return f"{told} ({mixed})" if len(self.rows) > 1 else told

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        """Whole steps only: in a smaller one there would be fewer negatives."""
        return self.steps * self.batch_size

    def __iter__(self) -> Iterator[int]:
        for step in range(self.epoch * self.steps, (self.epoch + 1) * self.steps):
            yield from self.of(step)

    def of(self, step: int) -> list[int]:
        """The rows of a step, counted from the first epoch's first; sets are mixed, for each device
        takes a run of them."""
        parts = []
        starts = accumulate(self.rows, initial=0)
        for number, (start, share) in enumerate(zip(starts, self.shares, strict=False)):
            if share:
                cycle, place = divmod(step, self.rows[number] // share)
                parts.append(start + self._order(number, cycle)[place * share :][:share])
        if len(parts) == 1:
            return parts[0].tolist()
        rng = np.random.default_rng((*self.seed, len(parts), step))
        return rng.permutation(np.concatenate(parts)).tolist() if parts else []

    def _shuffled(self, number: int, cycle: int) -> np.ndarray:
        return np.random.default_rng((*self.seed, number, cycle)).permutation(self.rows[number])


def _shares(seen: np.ndarray, batch_size: int) -> list[int]:
    """`batch_size` in whole numbers in proportion to `seen`; largest remainders are rounded up."""
    exact = batch_size * seen / seen.sum()
    shares = np.floor(exact).astype(int)
    for number in np.argsort(shares - exact, kind="stable")[: batch_size - shares.sum()]:
        shares[number] += 1
    return shares.tolist()
