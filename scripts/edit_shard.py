"""A shard of some edit pairs, and the json-lines that grow by a row for each pair of it.

What scripts/caption_edits.py and scripts/filter_edits.py share: shards have no row in common and
may run side by side; one that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from vision_tower.edits import Edits
from vision_tower.journal import resume

Row = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser, batch_size: int) -> None:
    parser.add_argument("output", type=Path, help="folder of what is written")
    parser.add_argument("--edits", nargs="+", required=True, help="edit pairs, as of stage 2")
    parser.add_argument("--shard", type=int, default=0, help="which of the shards, from 0 (0)")
    parser.add_argument("--shards", type=int, default=1, help="how many there are (1)")
    parser.add_argument(
        "--batch_size", type=int, default=batch_size, help=f"pairs at a time ({batch_size})"
    )


class Shard:
    """Every `shards`-th of the edit pairs, from number `shard` on."""

    def __init__(self, edits: Edits, arguments: argparse.Namespace) -> None:
        """Raises ValueError for a shard or a batch that cannot be, and two files of one name."""
        shard, shards = arguments.shard, arguments.shards
        if not 0 <= shard < shards:
            raise ValueError(f"--shard {shard} is none of the shards 0 to {shards - 1}.")
        if arguments.batch_size < 1:
            raise ValueError("--batch_size must be at least 1.")
        self.edits, self.ids, self.batch_size = edits, edits.ids(), arguments.batch_size
        self.rows = range(shard, len(edits), shards)
        self.name = f"{shard:05}-of-{shards:05}"

    def grow(
        self,
        path: Path,
        made_by: dict[str, object],
        work: Callable[[Sequence[int]], Iterable[Sequence[Row]]],
    ) -> dict[str, Row]:
        """All rows of the file, by id, once it has one for each pair of the shard.

        Args:
            path: json-lines with an "id" each.
            made_by: what they depend on beside the pairs.
            work: takes the pairs that are still to do and yields their rows, some at a time. It
                is not asked if there are none.

        Raises:
            ValueError: what is there was made otherwise (`resume`); and what `work` raises.
        """
        files = Counter(told_by.rpartition(":")[0] for told_by in self.ids)
        rows = {row["id"]: row for row in resume(path, {**made_by, "edits": files})}
        pending = [row for row in self.rows if self.ids[row] not in rows]
        with (
            path.open("a", encoding="utf-8") as out,
            tqdm(desc=path.name, total=len(self.rows), initial=len(rows), unit=" rows") as bar,
        ):
            for found in work(pending) if pending else ():
                out.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in found)
                out.flush()
                rows |= {row["id"]: row for row in found}
                bar.update(len(found))
        return rows
