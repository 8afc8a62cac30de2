"""Read edit pairs in UltraEdit's parquet: columns source_image, edited_image (a {"bytes", "path"}
struct or raw bytes), source_caption, target_caption, edit_prompt."""

from __future__ import annotations

import bisect
import glob
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

from vision_tower.images import decode

IMAGES = ("source_image", "edited_image")
CAPTIONS = ("source_caption", "target_caption")
COLUMNS = (*IMAGES, *CAPTIONS, "edit_prompt")


@dataclass(frozen=True, slots=True)
class Edit:
    """One edit pair. `row` says where it was read."""

    row: str
    source_image: Image.Image
    edited_image: Image.Image
    source_caption: str
    edited_caption: str
    instruction: str


class Edits:
    """Map-style over all rows of all files; pictures are decoded when a row is asked for."""

    def __init__(self, files: Sequence[str | Path]) -> None:
        """`files`: parquet files or glob patterns. Raises FileNotFoundError or ValueError."""
        self.files = _expand(files)
        rows = [_checked_rows(file) for file in self.files]
        self._ends = list(itertools.accumulate(rows))
        self.table = datasets.load_dataset("parquet", data_files=self.files, split="train")
        for name in IMAGES:
            if isinstance(self.table.features[name], datasets.Image):
                # Decoding is ours: it names the row of a broken picture.
                self.table = self.table.cast_column(name, datasets.Image(decode=False))

    def __len__(self) -> int:
        return len(self.table)

    def where(self, row: int) -> str:
        """The file a row came from and its place there."""
        number = bisect.bisect_right(self._ends, row)
        return f"{self.files[number]} row {row - (self._ends[number - 1] if number else 0)}"

    def __getitem__(self, row: int) -> Edit:
        values = self.table[row]
        where = self.where(row)
        return Edit(
            row=where,
            source_image=_picture(values["source_image"], f"{where}, source_image"),
            edited_image=_picture(values["edited_image"], f"{where}, edited_image"),
            source_caption=values["source_caption"],
            edited_caption=values["target_caption"],
            instruction=values["edit_prompt"],
        )


def _expand(patterns: Sequence[str | Path]) -> list[str]:
    files = []
    for pattern in map(str, patterns):
        found = sorted(glob.glob(pattern))  # noqa: PTH207, patterns may be absolute
        if not found:
            raise FileNotFoundError(f"no file {pattern!r}: give --edits parquet files or patterns.")
        files += found
    return files


def _checked_rows(file: str) -> int:
    """How many rows a parquet file has; ValueError if it has none, or lacks a column or caption."""
    try:
        found = pq.ParquetFile(file)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{file} is not parquet ({error}): fetch it again.") from error
    missing = [name for name in COLUMNS if name not in found.schema_arrow.names]
    if missing:
        raise ValueError(
            f"{file}: no column {', '.join(missing)} (there are "
            f"{', '.join(found.schema_arrow.names)}). Rename them to UltraEdit's."
        )
    if not found.metadata.num_rows:
        raise ValueError(f"{file} has no row. Leave it out of --edits.")
    _check_captions(found, file)
    return found.metadata.num_rows


def _check_captions(found: pq.ParquetFile, file: str) -> None:
    """Raise ValueError for an empty caption. Pictures are far too many bytes to look at here."""
    start = 0
    for batch in found.iter_batches(columns=list(CAPTIONS)):
        for name in CAPTIONS:
            length = pc.call_function("utf8_length", [batch[name].cast(pa.string())])
            place = pc.index(pc.fill_null(length, 0), 0).as_py()
            if place >= 0:
                raise ValueError(f"{file} row {start + place}: {name} is empty. Remove the row.")
        start += batch.num_rows


def _picture(value: dict | bytes | None, where: str) -> Image.Image:
    source: bytes | Path | None
    if isinstance(value, dict):
        source = value["bytes"] or (Path(value["path"]) if value["path"] else None)
    else:
        source = value
    if not source:
        raise ValueError(f"{where}: there is no picture. Remove the row.")
    return decode(source, where)
