"""NaturalBench's groups, from the released parquet files or from the authors' json."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow.parquet

from eval.pictures import cell_name, image_folder
from eval.rows import read_text

Form = Literal["yes_no", "multiple_choice"]

FORMS: dict[object, Form] = {
    "yes_no": "yes_no",
    "multiple_choice": "multiple_choice",
    "mcq": "multiple_choice",  # the json's word for it
}
SUFFIXES: dict[Form, str] = {
    "yes_no": "Please answer Yes or No.",
    "multiple_choice": "Please output the letter corresponding to the correct option.",
}
# The released file has been published with either name.
TYPE_COLUMNS = ("Question_Type", "Question Type")
LABEL_COLUMNS = tuple(f"Image_{i}_Question_{q}" for q in (0, 1) for i in (0, 1))


@dataclass(frozen=True)
class Group:
    """Two questions on two pictures; `labels` are in the order q0 i0, q0 i1, q1 i0, q1 i1."""

    form: Form
    questions: tuple[str, str]
    images: tuple[str, str]
    labels: tuple[str, ...]


def data_files(root: Path) -> list[Path]:
    """The parquet files, else test_set.json.

    Raises:
        FileNotFoundError: neither is there, or a parquet file of several is missing.
    """
    shards = sorted(root.glob("data/*.parquet")) or sorted(root.glob("*.parquet"))
    for shard in shards:
        of = re.search(r"-of-(\d+)\.parquet$", shard.name)
        if of and int(of[1]) != len(shards):
            raise FileNotFoundError(
                f"{shard.parent}: {len(shards)} of {int(of[1])} parquet files; take the others too."
            )
    if shards:
        return shards
    path = root / "test_set.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"{root}: no NaturalBench here; --data-root must hold data/train-*.parquet or "
            "the authors' test_set.json."
        )
    return [path]


def read_groups(root: Path) -> list[Group]:
    """All groups in the files' order.

    Raises:
        FileNotFoundError: no data, or not all of them.
        ValueError: files of another kind; names the row.
    """
    files = data_files(root)
    if files[0].suffix == ".json":
        return _json_groups(root, files[0])
    return [group for path in files for group in _parquet_groups(root, path)]


def _parquet_groups(root: Path, path: Path) -> list[Group]:
    try:
        names = pyarrow.parquet.read_schema(path).names
    except pyarrow.ArrowInvalid as error:
        raise ValueError(f"{path}: no readable parquet ({error}); take the file again.") from error
    form = next((name for name in TYPE_COLUMNS if name in names), TYPE_COLUMNS[0])
    columns = ["Question_0", "Question_1", *LABEL_COLUMNS, form]
    missing = [name for name in (*columns, "Image_0", "Image_1") if name not in names]
    if missing:
        raise ValueError(f"{path}: no column {', '.join(missing)}; take NaturalBench's own file.")
    file = path.relative_to(root).as_posix()
    return [
        Group(
            form=_form(f"{path}, row {row + 1}", fields[form]),
            questions=(fields["Question_0"], fields["Question_1"]),
            images=(cell_name(file, row, "Image_0"), cell_name(file, row, "Image_1")),
            labels=tuple(fields[name] for name in LABEL_COLUMNS),
        )
        for row, fields in enumerate(
            pyarrow.parquet.read_table(path, columns=columns).to_pylist()  # pictures stay there
        )
    ]


def _json_groups(root: Path, path: Path) -> list[Group]:
    """Four rows [question and suffix, picture, answer, type] a group."""
    try:
        rows = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: broken json ({error}); take the file again.") from error
    if not isinstance(rows, list) or not rows or len(rows) % 4:
        raise ValueError(f"{path}: needs a list of rows, four for each group; take it again.")
    folder = image_folder(root, ("images",))
    return [_json_group(path, i, rows[i : i + 4], folder) for i in range(0, len(rows), 4)]


def _json_group(path: Path, start: int, rows: Sequence[object], folder: str) -> Group:
    where = f"{path}, row {start + 1}"
    columns: list[tuple[str, ...]] = []
    for row in rows:
        if not isinstance(row, list) or len(row) != 4 or not all(isinstance(x, str) for x in row):
            raise ValueError(f"{where}: rows read [question, picture, answer, type].")
        columns.append(tuple(row))
    questions, pictures, labels, types = zip(*columns, strict=True)
    crossed = (
        questions[0] == questions[1] and questions[2] == questions[3]
        and pictures[0] == pictures[2] and pictures[1] == pictures[3] and len(set(types)) == 1
    )  # fmt: skip
    if not crossed:
        raise ValueError(f"{where}: these four rows are not two questions on two pictures.")
    form = _form(where, types[0])
    first, second = (q.removesuffix(SUFFIXES[form]) for q in questions[::2])
    images = (f"{folder}/{pictures[0]}", f"{folder}/{pictures[1]}")
    return Group(form, (first, second), images, labels)


def _form(where: str, name: object) -> Form:
    if name not in FORMS:
        raise ValueError(
            f"{where}: question type {name!r} is none of {', '.join(map(str, FORMS))}."
        )
    return FORMS[name]


def listed_answers(path: Path) -> list[str] | None:
    """The official script's `output_file`, a json list of texts; None for any other file."""
    if path.suffix != ".json" or not path.is_file():
        return None
    try:
        value = json.loads(read_text(path))
    except json.JSONDecodeError:
        return None  # json lines, or broken: the reader of rows tells
    listed = isinstance(value, list) and all(isinstance(text, str) for text in value)
    return value if listed and value else None


def options_of(question: str) -> tuple[str, str]:
    """The options' texts in "… A:Knit cap; B:Helmet;"; "option A" where they are not listed."""
    listed = re.search(r"\bA:\s*(.+?)[;.]?\s*B:\s*(.+?)[;.]?\s*$", question, flags=re.DOTALL)
    return (listed[1], listed[2]) if listed else ("option A", "option B")
