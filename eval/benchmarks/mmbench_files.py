"""MMBench's table: questions, their rotated copies, and where a picture's base64 lies."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.answers import some
from eval.pictures import cell_name
from eval.rows import read_rows

logger = logging.getLogger(__name__)

# LLaVA's file, the later one of the authors' site, and VLMEvalKit's two.
EN_TABLES = (
    "mmbench_dev_20230712.tsv", "mmbench_dev_en_20231003.tsv", "MMBench_DEV_EN.tsv",
    "MMBench_DEV_EN_V11.tsv",
)  # fmt: skip
CN_TABLES = ("mmbench_dev_cn_20231003.tsv", "MMBench_DEV_CN.tsv", "MMBench_DEV_CN_V11.tsv")
COLUMNS = ("index", "question", "A", "B", "C", "D", "answer", "l2-category", "image")
LETTERS = ("A", "B", "C", "D")
ROTATION = 1_000_000  # a copy's index is its question's plus a multiple of this
# What pandas, with which LLaVA reads the table, takes for an empty cell.
EMPTY = {"", "NA", "N/A", "n/a", "NULL", "null", "#N/A", "<NA>"}
REFERENCE = 64  # VLMEvalKit: a shorter picture cell is the index of the row that has the picture


@dataclass(frozen=True)
class Row:
    """One way to ask a question; `options` are in order of their letters, A first."""

    index: int
    hint: str
    question: str
    options: tuple[str, ...]
    label: str
    category: str
    image: str

    @property
    def base(self) -> int:
        """Index of the question of which this is a rotation."""
        return self.index % ROTATION


def table_file(root: Path, names: Sequence[str]) -> Path:
    """The table under one of its published names.

    Raises:
        FileNotFoundError: none is there.
        ValueError: there are several, or only a test split, which has no answers.
    """
    found = [root / name for name in names if (root / name).is_file()]
    if len(found) > 1:
        raise ValueError(
            f"{root}: holds {', '.join(path.name for path in found)}, which ask different "
            "questions; keep one."
        )
    if found:
        return found[0]
    tests = [path.name for path in root.glob("*.tsv") if "test" in path.name.lower()]
    if tests:
        raise ValueError(f"{root / tests[0]}: {NO_ANSWERS}")
    raise FileNotFoundError(
        f"{root}: no MMBench table; --data-root must hold {' or '.join(names)}."
    )


NO_ANSWERS = (
    "no right answers in it; MMBench keeps those of its test split to itself, so take the dev "
    "split, or send the answers to the authors' server."
)


def read_table(root: Path, path: Path) -> list[Row]:
    """All rows, in the table's order.

    Raises:
        ValueError: another table, no right answers, indices doubled, or no rotations at all.
    """
    table = read_rows(path)
    columns = table[0].keys() if table else ()
    missing = [name for name in COLUMNS if name not in columns]
    if missing == ["answer"] or (not missing and all(_empty(row["answer"]) for row in table)):
        raise ValueError(f"{path}: {NO_ANSWERS}")
    if missing:
        raise ValueError(f"{path}: no column {', '.join(missing)}; take MMBench's own table.")
    pictures = _pictures(root, path, table)
    rows = [
        _row(f"{path}, row {number}", fields, image)
        for number, (fields, image) in enumerate(zip(table, pictures, strict=True), start=1)
    ]
    _check(path, rows)
    return rows


def _row(where: str, fields: Mapping[str, object], image: str) -> Row:
    label = str(fields["answer"]).strip()
    if label not in LETTERS:
        raise ValueError(f"{where}: right answer {label!r:.20} is none of {', '.join(LETTERS)}.")
    options: list[str] = []
    for letter in LETTERS:  # as LLaVA: the first empty one ends them
        if _empty(fields[letter]):
            break
        options.append(str(fields[letter]))
    return Row(
        index=_index(where, fields["index"]),
        hint="" if _empty(fields.get("hint", "")) else str(fields["hint"]),
        question=str(fields["question"]),
        options=tuple(options),
        label=label,
        category=str(fields["l2-category"]),
        image=image,
    )


def _index(where: str, value: object) -> int:
    text = str(value).strip()
    if not text.isdecimal():
        raise ValueError(f"{where}: index {text!r:.20} is no number.")
    return int(text)


def _empty(value: object) -> bool:
    """Whether LLaVA's is_none calls this cell empty."""
    text = str(value)
    return text in EMPTY or text.lower() in ("nan", "none")


def _pictures(root: Path, path: Path, table: Sequence[Mapping[str, object]]) -> list[str]:
    """Name of each row's picture; rows with the same picture share one name."""
    file = path.relative_to(root).as_posix()
    cells = [str(fields["image"]) for fields in table]
    places = {str(fields["index"]).strip(): place for place, fields in enumerate(table)}
    first: dict[str, int] = {}
    names: list[str] = []
    for number, cell in enumerate(cells):
        place = places.get(cell.strip()) if len(cell) < REFERENCE else number
        if place is None or len(cells[place]) < REFERENCE:
            raise ValueError(
                f"{path}, row {number + 1}: picture {cell!r} is neither base64 nor the index of a "
                "row that has it; take the table again."
            )
        names.append(cell_name(file, first.setdefault(cells[place], place), "image"))
    return names


def _check(path: Path, rows: Sequence[Row]) -> None:
    """Whether the rows are questions with their rotations."""
    groups = rotations(rows)
    indices = {row.index for row in rows}
    if len(indices) < len(rows):
        raise ValueError(f"{path}: {len(rows) - len(indices)} indices stand twice; take it again.")
    lonely = [str(base) for base in groups if base not in indices]
    if lonely:
        raise ValueError(f"{path}: rotations of questions that are missing: {some(lonely)}.")
    if len(groups) == len(rows):
        raise ValueError(
            f"{path}: no rotated copies of its {len(rows)} questions, which CircularEval needs; "
            "take a table that has them."
        )
    odd = [str(base) for base, group in groups.items() if len(group) != len(group[0].options)]
    if odd:
        logger.warning(
            "%s: not asked once per option: %s; rated over what is there", path, some(odd)
        )
    hidden = [str(row.index) for row in rows if LETTERS.index(row.label) >= len(row.options)]
    if hidden:
        logger.warning(
            "%s: the right option is an empty cell and not shown: %s; these count as wrong",
            path, some(hidden),
        )  # fmt: skip


def rotations(rows: Sequence[Row]) -> dict[int, list[Row]]:
    """Rows by question, the question itself before its copies."""
    groups: dict[int, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row.index):
        groups.setdefault(row.base, []).append(row)
    return groups
