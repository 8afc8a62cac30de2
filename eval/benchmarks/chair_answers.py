"""Files of captions for CHAIR: rows of image id and caption, and what chair.py reads and saves.

LisaAnne/Hallucination's utils/chair.py reads coco-caption's results (`imgToEval`) and saves its own
with the captions in `sentences`.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence
from pathlib import Path

from eval.answers import as_answers
from eval.benchmark import Answers
from eval.rows import read_rows

# COCO_val2014_000000000042.jpg and 000000000042 are 42.
_FILLED = re.compile(r"(?:COCO_val2014_)?0*(\d+)(?:\.jpg)?")


def read_captions(path: Path, known: Container[str]) -> Answers:
    """Pairs of image id and caption; an id that is not known as it stands may be COCO's file name.

    Raises:
        ValueError: a row without id or caption; names the row.
    """
    rows = as_answers(path, _table(path, read_rows(path)))
    pairs: list[tuple[str, str]] = []
    for row in rows:
        identity = row.identity("image_id", "question_id", "image")
        filled = _FILLED.fullmatch(identity)
        if identity not in known and filled is not None:
            identity = filled[1]
        pairs.append((identity, row.text))
    return pairs


def _table(path: Path, rows: list[dict[str, object]]) -> Sequence[Mapping[str, object]]:
    """The rows of captions inside chair.py's two forms; other rows as they are."""
    match rows:
        case [{"imgToEval": {**by_image}}]:
            captions = [
                {"image_id": i, **fields} if isinstance(fields, dict) else {}
                for i, fields in by_image.items()
            ]
        case [{"overall_metrics": _, "sentences": [*sentences]}]:
            captions = [fields if isinstance(fields, dict) else {} for fields in sentences]
        case [{"imgToEval": _}]:
            raise ValueError(f"{path}: holds no captions in imgToEval; take it anew.")
        case _:
            return rows
    return captions
