"""Open what data sets are published as: tables of rows, whatever the files are."""

from __future__ import annotations

import glob
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

BUILDERS = {".parquet": "parquet", ".json": "json", ".jsonl": "json", ".tar": "webdataset"}
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


def open_table(path: Path) -> datasets.Dataset:
    """Rows of a parquet, json, jsonl or webdataset tar file, or of InstructPix2Pix's raw folders.

    Pictures stay encoded: decoding is ours, which names the row of a broken one. Rows are kept in
    `datasets`' cache on disk and mapped into memory, so memory stays flat however many there are.
    Raises ValueError for a file that is none of these, or broken, or has no row.
    """
    if path.is_dir():
        return datasets.Dataset.from_list(_instruct_pix2pix(path))
    if path.suffix not in BUILDERS:
        raise ValueError(f"{path}: known are {', '.join(BUILDERS)} and InstructPix2Pix's folders.")
    _check(path)
    try:
        table = datasets.load_dataset(BUILDERS[path.suffix], data_files=str(path), split="train")
    except (datasets.exceptions.DatasetGenerationError, ValueError) as error:
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
