"""Where a benchmark's pictures are, and opening one by the name that a result carries."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import pyarrow
import pyarrow.parquet
from PIL import Image

from eval.rows import read_rows
from vision_tower.images import decode


def image_folder(root: Path, names: Sequence[str]) -> str:
    """The first of `names` that exists in the root; the first of all where none does.

    No folder is no error here: existing answers can be scored without pictures.
    """
    return next((name for name in names if (root / name).is_dir()), names[0])


def picture_files(images: Iterable[str]) -> list[str]:
    """The files that these pictures are, or lie in; each once."""
    return list(dict.fromkeys(image.partition("#")[0] for image in images))


def check_images(root: Path, images: Sequence[str]) -> None:
    """Refuse to start a run whose pictures are not all there.

    Raises:
        FileNotFoundError: names the first missing one and how many there are.
    """
    missing = [file for file in picture_files(images) if not (root / file).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{root / missing[0]}: no such picture ({len(missing)} of the benchmark's pictures are "
            "missing); unpack the benchmark's images there."
        )


def cell_name(file: str, row: int, column: str) -> str:
    """Name of a picture inside a table, understood by open_picture.

    Args:
        file: relative to the benchmark's folder: .parquet with encoded bytes, or any table of
            eval.rows.read_rows (.tsv, .csv, json) with base64.
        row: from 0, without the header.
    """
    return f"{file}#{row}:{column}"


def open_picture(root: Path, name: str) -> Image.Image:
    """Open a file, or a table's cell named by cell_name, as RGB.

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
    if path.suffix == ".parquet":
        value = _parquet_column(path, column)[int(row)].as_py()
        return value["bytes"] if isinstance(value, dict) else value
    try:
        return base64.b64decode(_text_column(path, column)[int(row)], validate=True)
    except (IndexError, ValueError) as error:
        raise ValueError(
            f"{path}, row {int(row) + 1}: no base64 picture in {column} ({error}); "
            "take the file again."
        ) from error


# A run asks for every row of the same two columns; reading them anew each time is quadratic.
@lru_cache(maxsize=2)
def _parquet_column(path: Path, column: str) -> pyarrow.ChunkedArray:
    return pyarrow.parquet.read_table(path, columns=[column])[column]


@lru_cache(maxsize=2)
def _text_column(path: Path, column: str) -> list[str]:
    return [str(row.get(column, "")) for row in read_rows(path)]
