"""Open what data sets are published as: tables of rows, whatever the files are."""

from __future__ import annotations

import bisect
import glob
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, cast

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from datasets.exceptions import DatasetGenerationError

PICKLES = (".pkl", ".pickle", ".pyd", ".pth", ".pt")


def expand(patterns: Sequence[str | Path]) -> list[Path]:
    """Files and folders by name or glob pattern. Raises FileNotFoundError for one without any."""
    found = []
    for pattern in map(str, patterns):
        paths = sorted(glob.glob(pattern))  # noqa: PTH207, patterns may be absolute
        if not paths:
            raise FileNotFoundError(f"no file {pattern!r}: give files, folders or patterns.")
        found += [Path(path) for path in paths]
    return found


def locate(ends: list[int], index: int) -> tuple[int, int]:
    """Which of several tables, whose rows end at `ends` when they are counted through, holds row
    `index`, and its row there."""
    number = bisect.bisect_right(ends, index)
    return number, index - (ends[number - 1] if number else 0)


def open_table(path: Path) -> datasets.Dataset:
    """Rows of a parquet, json, jsonl, csv or webdataset tar file, or of a folder:
    InstructPix2Pix's, Urban1k's, DCI's.

    Pictures stay encoded: decoding is ours, which names the row of a broken one. Rows are kept in
    `datasets`' cache on disk and mapped into memory, so memory stays flat however many there are.
    Raises ValueError for a file that is none of these, or broken, or has no row.
    """
    if path.is_dir():
        return datasets.Dataset.from_list(_rows_of_folder(path))
    if path.suffix not in READERS:
        raise ValueError(f"{path}: known are files {', '.join(READERS)}.")
    _check(path)
    try:
        table = cast("datasets.Dataset", READERS[path.suffix](str(path)))
    except (DatasetGenerationError, ValueError) as error:
        reason = error.__cause__ or error
        raise ValueError(f"{path} cannot be read ({reason}): fetch it again.") from error
    for name, feature in table.features.items():
        if isinstance(feature, datasets.Image):
            table = table.cast_column(name, datasets.Image(decode=False))
    if table.column_names == ["data"]:  # ImgEdit's dialogues: a list of edits a row
        return datasets.Dataset.from_list([turn for turns in table["data"] for turn in turns])
    return table


def _check(path: Path) -> None:
    """What `datasets` would say unclearly, late, or not at all."""
    if path.suffix == ".parquet":
        try:
            rows = pq.ParquetFile(path).metadata.num_rows
        except pa.ArrowInvalid as error:
            raise ValueError(f"{path} is not parquet ({error}): fetch it again.") from error
        if not rows:
            raise ValueError(f"{path} has no row. Leave it out.")
    if path.suffix == ".tar":
        try:
            with tarfile.open(path) as archive:
                names = archive.getnames()
        except tarfile.ReadError as error:
            raise ValueError(f"{path} is no tar ({error}): fetch it again.") from error
        for name in names:
            if ".." in PurePosixPath(name).parts or name.startswith("/"):
                raise ValueError(f"{path}: the member {name!r} points out of it. Do not trust it.")
            if name.endswith(PICKLES):
                raise ValueError(
                    f"{path}: the member {name!r} is a pickle, which could run anything. Remove it."
                )


def _from_csv(path: str) -> Any:
    """Long-DCI's csv has tabs."""
    with Path(path).open(encoding="utf-8") as file:
        separator = "\t" if "\t" in file.readline() else ","
    return datasets.Dataset.from_csv(path, sep=separator)


def _from_tar(path: str) -> Any:
    return datasets.load_dataset("webdataset", data_files=path, split="train")


READERS: dict[str, Any] = {
    ".parquet": datasets.Dataset.from_parquet,
    ".json": datasets.Dataset.from_json,
    ".jsonl": datasets.Dataset.from_json,
    ".jsonlines": datasets.Dataset.from_json,
    ".csv": _from_csv,
    ".tsv": _from_csv,
    ".tar": _from_tar,
}


def _rows_of_folder(folder: Path) -> list[dict]:
    if (folder / "seeds.json").is_file():
        return _instruct_pix2pix(folder)
    if (folder / "caption").is_dir():
        return _urban_1k(folder)
    rows = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*.json"))]
    if not rows:
        raise ValueError(
            f"{folder} holds no known data set: of folders, InstructPix2Pix's (seeds.json), "
            "Urban1k's (image/, caption/) and DCI's (a json a picture) are read."
        )
    return [
        {name: row.get(name) for name in ("image", "extra_caption", "short_caption")}
        for row in rows
    ]


def _urban_1k(folder: Path) -> list[dict]:
    """image/NNN.jpg and caption/NNN.txt, whose first line is the caption."""
    return [
        {
            "image": str(folder / "image" / f"{file.stem}.jpg"),
            "caption": file.read_text(encoding="utf-8").split("\n")[0],
        }
        for file in sorted((folder / "caption").glob("*.txt"))
    ]


def _instruct_pix2pix(folder: Path) -> list[dict]:
    """The raw release: seeds.json is [[folder, [seed, ...]], ...]; each folder has prompt.json and
    two pictures a seed."""
    seeds = folder / "seeds.json"
    if not seeds.is_file():
        raise ValueError(
            f"{folder} has no seeds.json: of folders, only InstructPix2Pix's are read."
        )
    rows = []
    for name, numbers in json.loads(seeds.read_text(encoding="utf-8")):
        prompt = json.loads((folder / name / "prompt.json").read_text(encoding="utf-8"))
        rows += [
            {
                "original_image": str(folder / name / f"{number}_0.jpg"),
                "edited_image": str(folder / name / f"{number}_1.jpg"),
                "edit_prompt": prompt["edit"],
                "original_prompt": prompt["input"],
                "edited_prompt": prompt["output"],
            }
            for number in numbers
        ]
    return rows
