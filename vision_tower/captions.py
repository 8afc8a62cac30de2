"""Read pictures with long and short captions from any of the published sets
(`vision_tower.caption_formats`), or from a table with other columns."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
from PIL import Image
from torch.utils.data import Dataset

from vision_tower.caption_formats import CAPTION_FORMATS, CaptionColumns, named_columns
from vision_tower.images import decode, located, require_files
from vision_tower.tables import expand, locate, open_table, recognise

# Columns of pictures that hold no bytes.
TEXT = datasets.Value("string")
PATHS = (TEXT, {"bytes": datasets.Value("null"), "path": TEXT})


@dataclass(frozen=True, slots=True)
class Texts:
    """A row's captions. `row` says where it was read: "<file> row <n> (id <id>)"."""

    row: str
    short: str
    long: str


@dataclass(frozen=True, slots=True)
class StoredCaption(Texts):
    """One described picture, encoded or in a file."""

    image: Path | bytes


@dataclass(frozen=True, slots=True)
class Caption(Texts):
    """One described picture."""

    image: Image.Image


@dataclass(frozen=True)
class _Part:
    """`texts` is the table without pictures, which it would be slow to read for nothing."""

    file: Path
    table: datasets.Dataset
    texts: datasets.Dataset
    columns: CaptionColumns
    image_root: Path

    def read_texts(self, row: int, values: dict[str, Any]) -> Texts:
        where = f"{self.file} row {row}" + (f" (id {values['id']})" if "id" in values else "")
        try:
            return Texts(where, *self.columns.texts(values))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(
                f"{where}: {error}. A row needs a caption; ShareGPT4V's is the one gpt turn of its "
                "conversations. Mend or remove the row."
            ) from error


class Captions(Dataset[Caption]):
    """Map-style over all rows of all files, in order; pictures are decoded when a row is asked for.

    Args:
        files: or glob patterns, or folders: parquet, json, jsonl, csv, tar; Urban1k's and DCI's.
        image_root: what the rows' paths of pictures are relative to; by default the folder that a
            row's file lies in.
        columns: of files of no known data set, as `named_columns` takes them.
        side: what pictures will be resized to, in pixels; 0: they are decoded as they are.

    Raises FileNotFoundError or ValueError that names file, row and remedy.
    """

    def __init__(
        self,
        files: Sequence[str | Path],
        image_root: str | Path | None = None,
        columns: Mapping[str, str] | None = None,
        side: int = 0,
    ) -> None:
        self._side = side
        named = named_columns(columns) if columns else None
        self._parts = [_opened(file, image_root, named) for file in expand(files)]
        self._ends = list(itertools.accumulate(len(part.table) for part in self._parts))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Caption:
        told = self.stored(index)
        return Caption(told.row, told.short, told.long, decode(told.image, told.row, self._side))

    def stored(self, index: int) -> StoredCaption:
        """A row, its picture undecoded."""
        number, row = locate(self._ends, index)
        part = self._parts[number]
        values = part.table[row]
        told = part.read_texts(row, values)
        image = located(values[part.columns.image], part.image_root, told.row)
        return StoredCaption(told.row, told.short, told.long, image)

    def texts(self, index: int) -> Texts:
        """A row without its picture."""
        number, row = locate(self._ends, index)
        return self._parts[number].read_texts(row, self._parts[number].texts[row])

    def check(self, images: bool = True) -> None:
        """Look at all texts and, with `images`, whether the files of pictures are there.

        Raises FileNotFoundError or ValueError that names file, row and remedy.
        """
        for part in self._parts:
            require_files(
                _files(part, images), f"Paths are relative to {part.image_root}: see image_root."
            )


def _files(part: _Part, images: bool) -> Iterator[tuple[Path, str]]:
    """The pictures that are files; what holds encoded ones is not looked at."""
    for row in range(len(part.texts)):
        values = part.texts[row]
        told = part.read_texts(row, values)
        if images and part.columns.image in values:
            image = located(values[part.columns.image], part.image_root, told.row)
            if isinstance(image, Path):
                yield image, told.row


def _opened(file: Path, image_root: str | Path | None, columns: CaptionColumns | None) -> _Part:
    table = open_table(file)
    if columns is None:
        columns = recognise(table.column_names, CAPTION_FORMATS, str(file))
    missing = [name for name in columns.names if name not in table.column_names]
    if missing:
        raise ValueError(
            f"{file} has no column {', '.join(missing)}: there are {', '.join(table.column_names)}."
        )
    names = [name for name in (*columns.names, "id") if name in table.column_names]
    if table.features[columns.image] not in PATHS:
        names.remove(columns.image)
    root = file.parent if image_root is None else Path(image_root)
    return _Part(file, table, table.select_columns(names), columns, root)
