"""Open what data sets are published as: tables of rows, whatever the files are."""

from __future__ import annotations

import bisect
import csv
import glob
import hashlib
import json
import tarfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, TypeVar, cast

import datasets
import datasets.config
import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from datasets.exceptions import DatasetGenerationError
from filelock import FileLock

PICKLES = (".pkl", ".pickle", ".pyd", ".pth", ".pt")


def expand(patterns: Sequence[str | Path]) -> list[Path]:
    """Files and folders by name, glob pattern or address, those of addresses fetched. Raises
    FileNotFoundError for one without any."""
    found = []
    for pattern in map(str, patterns):
        named = [pattern] if Path(pattern).exists() else []
        if "://" in pattern:
            named = _fetched(pattern)
        paths = named or sorted(glob.glob(pattern))  # noqa: PTH207, patterns may be absolute
        if not paths:
            raise FileNotFoundError(f"no file {pattern!r}: give files, folders or patterns.")
        found += [Path(path) for path in paths]
    return found


def _fetched(address: str) -> list[str]:
    """Files of the hub (hf://datasets/<id>/...) or of a store that fsspec opens (s3://, gs://,
    https://), kept in `datasets`' cache: rows are looked up in any order, and every epoch again.
    """
    folder = Path(datasets.config.HF_DATASETS_CACHE) / "fetched"
    folder /= hashlib.sha256(address.rpartition("/")[0].encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    kept = {"cache_storage": str(folder), "same_names": True}
    try:
        with FileLock(folder / ".lock"):  # of all the processes of a machine one fetches
            files = fsspec.open_local(f"filecache::{address}", filecache=kept)
    except (OSError, ValueError, ImportError) as error:
        raise FileNotFoundError(
            f"{address} cannot be fetched ({error}): check address and network, or give files."
        ) from error
    return [files] if isinstance(files, str) else sorted(files)


def locate(ends: list[int], index: int) -> tuple[int, int]:
    """Which of several tables, whose rows end at `ends` when they are counted through, holds row
    `index`, and its row there."""
    number = bisect.bisect_right(ends, index)
    return number, index - (ends[number - 1] if number else 0)


class Columns(Protocol):
    """The columns of one published data set."""

    @property
    def names(self) -> tuple[str, ...]: ...


Known = TypeVar("Known", bound=Columns)


def recognise(columns: Collection[str], formats: Mapping[str, Known], where: str) -> Known:
    """The first of `formats` whose columns a table has. Raises ValueError if there is none."""
    for known in formats.values():
        if all(name in columns for name in known.names):
            return known
    told = "; ".join(f"{name}: {', '.join(known.names)}" for name, known in formats.items())
    raise ValueError(
        f"{where} has the columns {', '.join(columns)}, which are those of no data set known here. "
        f"Rename them to one of these (captions of your own: columns in the entry). {told}."
    )


def open_table(path: Path) -> datasets.Dataset:
    """Rows of a parquet, json, jsonl, csv or webdataset tar file, or of a folder:
    InstructPix2Pix's, Urban1k's, DCI's.

    Pictures stay encoded: decoding is ours, which names the row of a broken one. Rows of files are
    kept in `datasets`' cache on disk and mapped into memory; those of folders are in memory.
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
        raise ValueError(f"{path} cannot be read as a table of like rows ({reason}).") from error
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
    """All columns as text: "None" is a caption, 0001 a name. Long-DCI's csv has tabs."""
    with Path(path).open(encoding="utf-8", newline="") as file:
        separator = "\t" if "\t" in file.readline() else ","
        file.seek(0)
        names = next(csv.reader(file, delimiter=separator))
    features = datasets.Features({name: datasets.Value("string") for name in names})
    return datasets.Dataset.from_csv(path, features=features, sep=separator, keep_default_na=False)


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
    files = sorted(folder.glob("*.json"))
    if not files:
        raise ValueError(
            f"{folder} holds no known data set: of folders, InstructPix2Pix's (seeds.json), "
            "Urban1k's (image/, caption/) and DCI's (a json a picture) are read."
        )
    return [_dci(file) for file in files]


def _dci(file: Path) -> dict:
    try:
        row = json.loads(file.read_text(encoding="utf-8"))
        return {name: row[name] for name in ("image", "extra_caption", "short_caption")}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{file}: {error!r}. In a folder of json files each is DCI's, with image, "
            "extra_caption and short_caption; name files of other kinds themselves."
        ) from error


def _file(path: Path) -> dict:
    """A picture as `datasets` writes one that is in a file of its own."""
    return {"bytes": None, "path": str(path)}


def _urban_1k(folder: Path) -> list[dict]:
    """image/NNN.jpg and caption/NNN.txt, whose first line is the caption."""
    return [
        {
            "image": _file(folder / "image" / f"{file.stem}.jpg"),
            "caption": file.read_text(encoding="utf-8").split("\n")[0],
        }
        for file in sorted((folder / "caption").glob("*.txt"))
    ]


def _instruct_pix2pix(folder: Path) -> list[dict]:
    """The raw release: seeds.json is [[folder, [seed, ...]], ...]; each folder has prompt.json and
    two pictures a seed."""
    rows = []
    for name, numbers in json.loads((folder / "seeds.json").read_text(encoding="utf-8")):
        prompt = json.loads((folder / name / "prompt.json").read_text(encoding="utf-8"))
        rows += [
            {
                "original_image": _file(folder / name / f"{number}_0.jpg"),
                "edited_image": _file(folder / name / f"{number}_1.jpg"),
                "edit_prompt": prompt["edit"],
                "original_prompt": prompt["input"],
                "edited_prompt": prompt["output"],
            }
            for number in numbers
        ]
    return rows
