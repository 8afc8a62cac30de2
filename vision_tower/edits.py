"""Read edit pairs from any of the published edit data sets (`vision_tower.edit_formats`)."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image
from torch.utils.data import Dataset

from vision_tower.edit_formats import EDIT_FORMATS, EditColumns, StoredEdit
from vision_tower.images import decode, located
from vision_tower.tables import expand, locate, open_table, recognise

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
    file: Path
    table: datasets.Dataset
    columns: EditColumns

    def id(self, row: int) -> str:
        return f"{self.file.name}:{row}"


class Edits(Dataset[Edit]):
    """Map-style over all pairs of all files; pictures are decoded when a pair is asked for."""

    def __init__(
        self,
        files: Sequence[str | Path],
        captions: Sequence[str | Path] = (),
        *,
        captions_required: bool = True,
        side: int = 0,
    ) -> None:
        """
        Args:
            files: or glob patterns, or InstructPix2Pix's folders. Paths of pictures in a file are
                relative to the folder it lies in.
            captions: json-lines {"id": "<file name>:<row>", "source_caption", "target_caption"} for
                data sets without captions; they take the place of what there is.
            captions_required: whether a pair without both is refused, as training must; what writes
                captions gets "" for one that is missing.
            side: what pictures will be resized to, in pixels; 0: they are decoded as they are.

        Raises FileNotFoundError or ValueError that names file, row and remedy.
        """
        self._captions, self._side = _read_captions(captions), side
        self._parts = [_opened(file) for file in expand(files)]
        self._ends = list(itertools.accumulate(len(part.table) for part in self._parts))
        if self._captions:
            self._require_known()
        for part in self._parts if captions_required else ():
            self._require_captions(part)

    def __len__(self) -> int:
        return self._ends[-1]

    @property
    def columns(self) -> set[EditColumns]:
        """The columns that pairs were read from."""
        return {part.columns for part in self._parts}

    def ids(self) -> list[str]:
        """What captions tell each pair by: "<file name>:<row>", the row counted from 0.

        Raises ValueError for two files of one name.
        """
        self._require_unambiguous()
        return [part.id(row) for part in self._parts for row in range(len(part.table))]

    def values(self, index: int) -> dict[str, Any]:
        """All columns of a pair's row as its data set has them, pictures undecoded."""
        number, row = locate(self._ends, index)
        return self._parts[number].table[row]

    def stored(self, index: int) -> tuple[str, Path, StoredEdit]:
        """Where a pair was read, the folder of its file, and the pair, its pictures undecoded."""
        number, row = locate(self._ends, index)
        part = self._parts[number]
        where = f"{part.file} row {row}"
        try:
            edit = part.columns.read(part.table[row])
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"{where}: {error!r}. Mend or remove the row.") from error
        if part.id(row) in self._captions:
            source, edited = self._captions[part.id(row)]
            edit = replace(edit, source_caption=source, edited_caption=edited)
        return where, part.file.parent, edit

    def __getitem__(self, index: int) -> Edit:
        where, folder, edit = self.stored(index)
        source, edited = f"{where}, source_image", f"{where}, edited_image"
        return Edit(
            row=where,
            source_image=decode(located(edit.source_image, folder, source), source, self._side),
            edited_image=decode(located(edit.edited_image, folder, edited), edited, self._side),
            source_caption=edit.source_caption,
            edited_caption=edit.edited_caption,
            instruction=edit.instruction,
            kind=edit.kind,
        )

    def _require_unambiguous(self) -> None:
        [(name, number)] = Counter(part.file.name for part in self._parts).most_common(1)
        if number > 1:
            raise ValueError(
                f"{number} files are named {name}, and pairs are told by that name. Rename the "
                "files, and the ids in their captions."
            )

    def _require_known(self) -> None:
        self._require_unambiguous()
        rows = {part.file.name: len(part.table) for part in self._parts}
        for told in self._captions:
            name, _, row = told.rpartition(":")
            if not (name in rows and row.isdigit() and int(row) < rows[name]):
                raise ValueError(
                    f"captions: none of these files has a row {told!r}. An id is the file's "
                    "name, a colon and the row, counted from 0."
                )

    def _require_captions(self, part: _Part) -> None:
        if part.columns.captions:
            empty = {row for name in part.columns.captions for row in _empty(part, name)}
        else:
            empty = range(len(part.table))
        lacking = [row for row in empty if part.id(row) not in self._captions]
        if lacking:
            raise ValueError(
                f"{part.file} row {min(lacking)}: a caption is empty ({len(lacking)} of "
                f"{len(part.table)} rows in all). Remove the rows, or give their captions in "
                "a file of their own."
            )


def _opened(file: Path) -> _Part:
    table = open_table(file)
    return _Part(file, table, recognise(table.column_names, EDIT_FORMATS, str(file)))


def _empty(part: _Part, column: str) -> list[int]:
    """Rows whose text is blank or null."""
    texts = part.table.data.column(column)
    kind = texts.type
    if pa.types.is_null(kind):
        return list(range(len(part.table)))
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind)):
        raise ValueError(f"{part.file}: the column {column} holds {kind}, not text. Mend the file.")
    trimmed = pc.call_function("utf8_trim_whitespace", [texts.cast(pa.string())])
    length = pc.fill_null(pc.call_function("utf8_length", [trimmed]), 0)
    empty = pc.call_function("equal", [length, pa.scalar(0)])
    return pc.call_function("indices_nonzero", [empty]).to_pylist()


def _read_captions(files: Sequence[str | Path]) -> Captions:
    captions: Captions = {}
    for file in expand(files):
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                where = f"{file} line {number}"
                try:
                    row = json.loads(line)
                    told = row["source_caption"].strip(), row["target_caption"].strip()
                    name = row["id"]
                except (ValueError, KeyError, AttributeError, TypeError) as error:
                    raise ValueError(
                        f"{where}: {error!r}. A line is json with id, source_caption and "
                        "target_caption."
                    ) from error
                if not all(told):
                    raise ValueError(f"{where}: a caption is empty. Remove the line.")
                if name in captions:
                    raise ValueError(f"{where}: the id {name!r} comes twice. Remove one.")
                captions[name] = told
    return captions
