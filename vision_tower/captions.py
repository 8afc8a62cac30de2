"""Read captions in ShareGPT4V's json: a list of rows like
`{"id": ..., "image": path, "conversations": [{"from": "human"}, {"from": "gpt", "value": ...}]}`.

The gpt turn is the long caption, its first sentence the short one (Long-CLIP's and TULIP's rule).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vision_tower.images import require_files


@dataclass(frozen=True, slots=True)
class Caption:
    """One described picture. `row` says where it was read: "<file> row <n> (id <id>)"."""

    row: str
    image: Path
    short: str
    long: str


def read_captions(
    files: Sequence[str | Path], image_root: str | Path, check_images: bool = True
) -> list[Caption]:
    """All rows of all files, in order. `image_root` is what the rows' image paths are relative to.

    Raises FileNotFoundError or ValueError that names file, row and remedy, for pictures too unless
    `check_images` is off.
    """
    captions = [caption for file in files for caption in _read_file(Path(file), Path(image_root))]
    if not captions:
        raise ValueError(f"no caption in {', '.join(map(str, files))}: give a file with rows.")
    if check_images:
        pictures = ((caption.image, caption.row) for caption in captions)
        require_files(pictures, f"Paths are relative to --image_root, here {image_root}.")
    return captions


def _read_file(file: Path, image_root: Path) -> list[Caption]:
    if not file.is_file():
        raise FileNotFoundError(
            f"there is no caption file {file}: give --captions a ShareGPT4V json."
        )
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is not json ({error}): download it again.") from error
    if not isinstance(rows, list):
        raise ValueError(f"{file} holds a {type(rows).__name__}, not a list of rows (ShareGPT4V).")
    return [_read_row(row, f"{file} row {n}", image_root) for n, row in enumerate(rows)]


def _read_row(row: Any, where: str, image_root: Path) -> Caption:
    try:
        where = f"{where} (id {row['id']})"
        image = image_root / row["image"]
        [long] = [turn["value"] for turn in row["conversations"] if turn["from"] == "gpt"]
        long = " ".join(long.split())
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"{where}: {error!r}. A row needs id, image and conversations with one gpt turn, the "
            "caption. Mend or remove the row."
        ) from error
    if not long:
        raise ValueError(f"{where}: the caption is empty. Remove the row.")
    return Caption(row=where, image=image, short=first_sentence(long), long=long)


def first_sentence(caption: str) -> str:
    """Up to the first full stop that a space follows; the whole caption if there is none."""
    return caption.split(". ", 1)[0].removesuffix(".")
