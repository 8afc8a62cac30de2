"""Read pictures with long and short captions from any of the published sets
(`vision_tower.caption_formats`), or from a table with other columns."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import datasets

from vision_tower.caption_formats import CAPTION_FORMATS, CaptionColumns, named_columns
from vision_tower.images import located, require_files
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
class Caption(Texts):
    """One described picture, encoded or in a file."""

    image: Path | bytes


@dataclass(frozen=True)
class _Part:
    """`texts` is the table without pictures, which it would be slow to read for nothing."""

    file: Path
    table: datasets.Dataset
    texts: datasets.Dataset
    columns: CaptionColumns

    def read_texts(self, row: int, values: dict[str, Any]) -> Texts:
        where = f"{self.file} row {row}" + (f" (id {values['id']})" if "id" in values else "")
        try:
            return Texts(where, *self.columns.texts(values))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(
                f"{where}: {error}. A row needs a caption; ShareGPT4V's is the one gpt turn of its "
                "conversations. Mend or remove the row."
            ) from error


class Captions(Sequence[Caption]):
    """Map-style over all rows of all files, in order; rows stay on disk until asked for."""

    def __init__(
        self, files: Sequence[str | Path], image_root: str | Path, columns: CaptionColumns | None
    ) -> None:
        self.image_root = Path(image_root)
        self._parts = [_opened(file, columns) for file in expand(files)]
        self._ends = list(itertools.accumulate(len(part.table) for part in self._parts))

    def __len__(self) -> int:
        return self._ends[-1]

    @overload
    def __getitem__(self, index: int) -> Caption: ...
    @overload
    def __getitem__(self, index: slice) -> list[Caption]: ...
    def __getitem__(self, index: int | slice) -> Caption | list[Caption]:
        if isinstance(index, slice):
            return [self[row] for row in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        number, row = locate(self._ends, index)
        part = self._parts[number]
        values = part.table[row]
        told = part.read_texts(row, values)
        image = located(values[part.columns.image], self.image_root, told.row)
        return Caption(told.row, told.short, told.long, image)

    def texts(self, index: int) -> Texts:
        """A row without its picture."""
        number, row = locate(self._ends, index)
        return self._parts[number].read_texts(row, self._parts[number].texts[row])

    def check(self, images: bool) -> None:
        """Look at all texts and, with `images`, whether the files of pictures are there.

        Raises FileNotFoundError or ValueError that names file, row and remedy.
        """
        found = (picture for part in self._parts for picture in self._files(part, images))
        require_files(found, f"Paths are relative to --image_root, here {self.image_root}.")

    def _files(self, part: _Part, images: bool) -> Iterator[tuple[Path, str]]:
        """The pictures that are files; what holds encoded ones is not looked at."""
        for row in range(len(part.texts)):
            values = part.texts[row]
            told = part.read_texts(row, values)
            if images and part.columns.image in values:
                image = located(values[part.columns.image], self.image_root, told.row)
                if isinstance(image, Path):
                    yield image, told.row


def read_captions(
    files: Sequence[str | Path],
    image_root: str | Path,
    check_images: bool = True,
    columns: Sequence[str] = (),
) -> Captions:
    """All rows of all files, every one looked at once.

    Args:
        files: or glob patterns, or folders: parquet, json, jsonl, csv, tar; Urban1k's and DCI's.
        image_root: what the rows' paths of pictures are relative to.
        check_images: whether to make sure that the files of pictures are there.
        columns: of files of no known data set, as `named_columns` takes them.

    Raises FileNotFoundError or ValueError that names file, row and remedy.
    """
    captions = Captions(files, image_root, named_columns(columns) if columns else None)
    captions.check(images=check_images)
    return captions


def _opened(file: Path, columns: CaptionColumns | None) -> _Part:
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
    return _Part(file, table, table.select_columns(names), columns)
