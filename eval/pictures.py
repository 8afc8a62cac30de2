"""Where a benchmark's pictures are, and opening one by the name that a result carries."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import pyarrow
import pyarrow.parquet
from PIL import Image

from vision_tower.images import decode


def image_folder(root: Path, names: Sequence[str]) -> str:
    """The first of `names` that exists in the root; the first of all where none does.

    No folder is no error here: existing answers can be scored without pictures.
    """
    return next((name for name in names if (root / name).is_dir()), names[0])


def check_images(root: Path, images: Sequence[str]) -> None:
    """Refuse to start a run whose pictures are not all there.

    Raises:
        FileNotFoundError: names the first missing one and how many there are.
    """
    missing = [image for image in dict.fromkeys(images) if not (root / image).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{root / missing[0]}: no such picture ({len(missing)} of the benchmark's pictures are "
            "missing); unpack the benchmark's images there."
        )


def cell_name(file: str, row: int, column: str) -> str:
    """Name of a picture inside a parquet file, understood by open_picture."""
    return f"{file}#{row}:{column}"


def open_picture(root: Path, name: str) -> Image.Image:
    """Open a file, or a parquet cell named by cell_name, as RGB.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a readable picture.
    """
    file, _, cell = name.partition("#")
    path = root / file
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such picture.")
    return decode(_cell_bytes(path, cell) if cell else path, f"{path} {cell}".strip())


def _cell_bytes(path: Path, cell: str) -> bytes:
    row, column = cell.split(":", 1)
    value = _column(path, column)[int(row)].as_py()
    return value["bytes"] if isinstance(value, dict) else value


# A run asks for every row of the same two columns; reading them anew each time is quadratic.
@lru_cache(maxsize=2)
def _column(path: Path, column: str) -> pyarrow.ChunkedArray:
    return pyarrow.parquet.read_table(path, columns=[column])[column]
