"""Read pictures with long and short captions from any of the published sets
(`vision_tower.caption_formats`), or from a table with other columns."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, overload

import datasets

from vision_tower.caption_formats import CaptionColumns, named_columns, recognise
from vision_tower.images import inside, require_files
from vision_tower.tables import expand, locate, open_table


@dataclass(frozen=True, slots=True)
class Caption:
    """One described picture, encoded or in a file. `row` says where it was read:
    "<file> row <n> (id <id>)"."""

    row: str
    image: Path | bytes
    short: str
    long: str


@dataclass(frozen=True)
class _Part:
    file: Path
    table: datasets.Dataset
    columns: CaptionColumns


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
        return self._caption(part, row, part.table[row])

    def __iter__(self) -> Iterator[Caption]:
        for part in self._parts:
            for row, values in enumerate(part.table):
                yield self._caption(part, row, cast("dict", values))

    def _caption(self, part: _Part, row: int, values: dict[str, Any]) -> Caption:
        where = f"{part.file} row {row}"
        try:
            where += f" (id {values['id']})" if "id" in values else ""
            image = values[part.columns.image]
            stored = (image["bytes"] or image["path"]) if isinstance(image, dict) else image
            if not stored:
                raise ValueError("there is no picture")
            short, long = part.columns.texts(values)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(
                f"{where}: {error}. A row needs a picture and a caption; ShareGPT4V's caption is "
                "the one gpt turn of its conversations. Mend or remove the row."
            ) from error
        return Caption(
            row=where,
            image=stored if isinstance(stored, bytes) else inside(self.image_root, stored, where),
            short=short,
            long=long,
        )


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
    pictures = ((c.image, c.row) for c in captions if isinstance(c.image, Path))
    if check_images:
        require_files(pictures, f"Paths are relative to --image_root, here {image_root}.")
    else:
        for _ in pictures:  # their texts are looked at all the same
            pass
    return captions


def _opened(file: Path, columns: CaptionColumns | None) -> _Part:
    table = open_table(file)
    if columns is None:
        return _Part(file, table, recognise(table.column_names, str(file)))
    missing = [name for name in columns.names if name not in table.column_names]
    if missing:
        raise ValueError(
            f"{file} has no column {', '.join(missing)}: there are {', '.join(table.column_names)}."
        )
    return _Part(file, table, columns)
