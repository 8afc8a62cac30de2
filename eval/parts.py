"""One file of answers that several processes fill: each has a part, and the parts are joined.

    torchrun --nproc_per_node 2 eval/run.py ...

The first process writes into the file itself, the others beside it. What a killed run left is
joined at the next start, whatever the number of processes was then or is now.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.benchmark import Question
from vision_tower.journal import resume

if TYPE_CHECKING:
    from accelerate import PartialState


def processes() -> PartialState:
    """The processes of this run, one where no launcher started several, and the device of each.

    They wait for one another with patience: a share may take a day longer than another.
    """
    # Heavy, and scoring a file of answers does without.
    import torch
    from accelerate import PartialState

    return PartialState(cpu=not torch.cuda.is_available(), timeout=timedelta(days=7))


def part(path: Path, rank: int) -> Path:
    """Where a process writes: `pope.answers.jsonl`, `pope.answers.1.jsonl`, ..."""
    return path.with_suffix(f".{rank}.jsonl") if rank else path


def join_parts(path: Path, made_by: dict[str, object]) -> None:
    """Append the rows of all parts to the file, and remove the parts. Killed on the way, it may be
    done again.

    Raises ValueError if the file, or a part, was made by something else (`resume`).
    """
    there = {row["question_id"] for row in resume(path, made_by)}
    for other in sorted(path.parent.glob(f"{path.stem}.[0-9]*.jsonl")):
        rows = [row for row in resume(other, made_by) if row["question_id"] not in there]
        with path.open("a", encoding="utf-8") as out:
            out.write("".join(map(line, rows)))
        other.unlink()
        other.with_suffix(".by.json").unlink()


def sort_rows(path: Path, made_by: dict[str, object], questions: Sequence[Question]) -> None:
    """Put the rows in the order of the questions: the file is then the same, byte by byte, however
    many processes filled it, and after whatever interruptions. Rows of other questions come last.
    """
    place = {question.id: number for number, question in enumerate(questions)}
    rows = sorted(resume(path, made_by), key=lambda row: place.get(row["question_id"], len(place)))
    draft = path.with_suffix(".sorted")
    draft.write_text("".join(map(line, rows)), encoding="utf-8")
    draft.replace(path)


def line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"
