"""Rows that turn out broken while a stage trains: told of, replaced, and no more than a budget."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar

from torch.utils.data import Dataset

from vision_tower.batches import Rows

QUARANTINE = "quarantine-{}.jsonl"  # in a stage's output_dir, by the name of the set
Row = TypeVar("Row")


class Quarantine(Dataset[Row]):
    """`rows`, but one that cannot be read is replaced by the next one that can.

    The replacement depends on the rows alone: a resumed run has the same, with any number of
    workers and processes. Each broken row is told of in `file`, once: json-lines {"row", "reason"}.

    Args:
        rows: raise ValueError for a row that cannot be read.
        file: of the run; a resumed one goes on with it.
        budget: share of the rows that may be broken. One more raises ValueError.
    """

    def __init__(self, rows: Rows[Row], file: Path, budget: float) -> None:
        if not 0 <= budget < 1:
            raise ValueError(f"--quarantine_budget is a share of the rows, not {budget}.")
        self.rows, self.file, self.budget = rows, file, budget
        self._known = set[int]()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Row:
        while True:
            try:
                return self.rows[index]
            except ValueError as error:
                self._tell(index, error)
                index = (index + 1) % len(self)

    def _tell(self, index: int, error: ValueError) -> None:
        if index in self._known:
            return
        told = quarantined(self.file)
        self._known.update(told)
        if index in told:
            return
        if len(told) + 1 > self.budget * len(self):
            raise ValueError(
                f"{error} It is one of {len(told) + 1} rows of {len(self)} that cannot be read"
                f"{f' (the others: {self.file})' if told else ''}; --quarantine_budget allows "
                f"{int(self.budget * len(self))}."
            ) from error
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a", encoding="utf-8") as lines:  # appended whole: workers share it
            lines.write(json.dumps({"row": index, "reason": str(error)}) + "\n")


def quarantined(file: Path) -> dict[int, str]:
    """Broken rows and why, of a file that `Quarantine` wrote; none if there is no file."""
    if not file.is_file():
        return {}
    told = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return {row["row"]: row["reason"] for row in told}
