"""Read edit pairs from any of the published edit data sets (`vision_tower.edit_formats`)."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from vision_tower.edit_formats import EditColumns, Stored, StoredEdit, recognise
from vision_tower.images import decode, inside
from vision_tower.tables import expand, locate, open_table

Captions = dict[str, tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Edit:
    """One edit pair. `row` says where it was read; `kind` is its edit_type, if it has one."""

    row: str
    source_image: Image.Image
    edited_image: Image.Image
    source_caption: str
    edited_caption: str
    instruction: str
    kind: str


@dataclass(frozen=True)
class _Part:
    """One pair of every row of a file."""

    file: Path
    table: datasets.Dataset
    columns: EditColumns
    inverse: bool

    def id(self, row: int) -> str:
        return f"{self.file.name}:{row}{'/inverse' if self.inverse else ''}"


class Edits:
    """Map-style over all pairs of all files; pictures are decoded when a pair is asked for."""

    def __init__(
        self,
        files: Sequence[str | Path],
        captions: Sequence[str | Path] = (),
    ) -> None:
        """
        Args:
            files: or glob patterns, or InstructPix2Pix's folders. Paths of pictures in a file are
                relative to the folder it lies in.
            captions: json-lines {"id": "<file name>:<row>", "source_caption", "target_caption"} for
                data sets without captions; they take the place of what there is.

        Raises FileNotFoundError or ValueError that names file, row and remedy.
        """
        self._captions = _read_captions(captions)
        self._parts = [part for file in expand(files) for part in _parts_of(file)]
        self._ends = list(itertools.accumulate(len(part.table) for part in self._parts))
        for part in self._parts:
            self._require_captions(part)

    def __len__(self) -> int:
        return self._ends[-1]

    def stored(self, index: int) -> tuple[str, Path, StoredEdit]:
        """Where a pair was read, the folder of its file, and the pair, its pictures undecoded."""
        number, row = locate(self._ends, index)
        part = self._parts[number]
        edit = part.columns.read(part.table[row])
        where = f"{part.file} row {row}{' (inverse)' if part.inverse else ''}"
        if part.id(row) in self._captions:
            source, edited = self._captions[part.id(row)]
            edit = replace(edit, source_caption=source, edited_caption=edited)
        return where, part.file.parent, edit

    def __getitem__(self, index: int) -> Edit:
        where, folder, edit = self.stored(index)
        return Edit(
            row=where,
            source_image=_picture(edit.source_image, folder, f"{where}, source_image"),
            edited_image=_picture(edit.edited_image, folder, f"{where}, edited_image"),
            source_caption=edit.source_caption,
            edited_caption=edit.edited_caption,
            instruction=edit.instruction,
            kind=edit.kind,
        )

    def _require_captions(self, part: _Part) -> None:
        rows = range(len(part.table))
        if part.columns.captions:
            lacking = sorted(
                {row for name in part.columns.captions for row in _empty(part.table, name)}
            )
        else:
            lacking = list(rows)
        lacking = [row for row in lacking if part.id(row) not in self._captions]
        if lacking:
            raise ValueError(
                f"{part.file} row {lacking[0]}: a caption is empty ({len(lacking)} of {len(rows)} "
                "rows in all). Remove the rows, or give their captions by --edit_captions."
            )


def _picture(value: Stored, folder: Path, where: str) -> Image.Image:
    stored = (value["bytes"] or value["path"]) if isinstance(value, dict) else value
    if not stored:
        raise ValueError(f"{where}: there is no picture. Remove the row.")
    return decode(stored if isinstance(stored, bytes) else inside(folder, stored, where), where)


def _parts_of(file: Path) -> list[_Part]:
    table = open_table(file)
    pairs = recognise(table.column_names, str(file))
    return [_Part(file, table, pair, inverse=number > 0) for number, pair in enumerate(pairs)]


def _empty(table: datasets.Dataset, column: str) -> list[int]:
    """Rows whose text is empty or null."""
    texts = table.data.column(column)
    if pa.types.is_null(texts.type):
        return list(range(len(table)))
    length = pc.fill_null(pc.call_function("binary_length", [texts]), 0)
    empty = pc.call_function("equal", [length, pa.scalar(0)])
    return pc.call_function("indices_nonzero", [empty]).to_pylist()


def _read_captions(files: Sequence[str | Path]) -> Captions:
    captions: Captions = {}
    for file in expand(files):
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    row = json.loads(line)
                    told = row["id"], row["source_caption"].strip(), row["target_caption"].strip()
                except (ValueError, KeyError, AttributeError, TypeError) as error:
                    raise ValueError(
                        f"{file} line {number}: {error!r}. A line is json with id, source_caption "
                        "and target_caption."
                    ) from error
                if not all(told):
                    raise ValueError(f"{file} line {number}: a caption is empty. Remove the line.")
                captions[told[0]] = told[1:]
    return captions
