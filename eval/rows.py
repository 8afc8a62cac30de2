"""Tables as the field ships them: json in three forms, csv, tsv and xlsx, as rows of fields."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from openpyxl import load_workbook
from openpyxl.utils.escape import unescape
from openpyxl.utils.exceptions import InvalidFileException

DELIMITERS = {".csv": ",", ".tsv": "\t"}
# VLMEvalKit's tables hold pictures; csv refuses fields of more than 128 KiB by default.
csv.field_size_limit(1 << 30)


def read_rows(path: Path) -> list[dict[str, object]]:
    """Read a table: .csv, .tsv and .xlsx by their suffix, everything else as json.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a folder, or not what the suffix says; names file and line.
    """
    _require_file(path)
    if path.suffix == ".xlsx":
        return _sheet_rows(path)
    if path.suffix in DELIMITERS:
        return _delimited_rows(path, DELIMITERS[path.suffix])
    return read_json_rows(path)


def _require_file(path: Path) -> None:
    if path.is_dir():
        raise ValueError(f"{path}: a folder where a file is wanted; give the file in it.")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; check the path.")


def require_ids(path: Path, name: str, ids: Sequence[str]) -> None:
    """The rows of a benchmark's file have an id each.

    Raises:
        ValueError: no rows, or an id twice; `name` is the field that holds it.
    """
    if not ids:
        raise ValueError(f"{path}: no rows; take the official file.")
    identity, times = Counter(ids).most_common(1)[0]
    if times > 1:
        raise ValueError(f"{path}: {name} {identity} stands twice; take the official file.")


def _sheet_rows(path: Path) -> list[dict[str, object]]:
    try:
        book = load_workbook(path, read_only=True, data_only=True)
    except (InvalidFileException, zipfile.BadZipFile, KeyError) as error:
        raise ValueError(f"{path}: no readable xlsx ({error}); save it again as xlsx.") from error
    lines = book.worksheets[0].iter_rows(values_only=True)
    header = [str(name) for name in next(lines, ())]
    rows = [[_cell(value) for value in line] for line in lines]
    book.close()
    return [dict(zip(header, row, strict=True)) for row in rows if any(cell != "" for cell in row)]


def _cell(value: object) -> object:
    """An empty cell is an empty text, as VLMEvalKit's empty answers are; Excel escapes some letters
    (a carriage return is _x000D_)."""
    if value is None:
        return ""
    return unescape(value) if isinstance(value, str) else value


def _delimited_rows(path: Path, delimiter: str) -> list[dict[str, object]]:
    lines = csv.reader(io.StringIO(read_text(path), newline=""), delimiter=delimiter)
    header = next(lines, [])
    rows: list[dict[str, object]] = []
    for line in filter(None, lines):  # an empty line has no fields
        if len(line) != len(header):
            raise ValueError(
                f"{path}, line {lines.line_num}: {len(line)} fields where the header has "
                f"{len(header)}; quote fields that hold line ends or the delimiter."
            )
        rows.append(dict(zip(header, line, strict=True)))
    return rows


def read_text(path: Path) -> str:
    """The text of a file, unpacked where its name ends in ".gz", without a byte order mark.

    Raises:
        ValueError: not UTF-8, or a broken ".gz".
    """
    raw = path.read_bytes()
    try:
        return (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8-sig")
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError) as error:
        raise ValueError(f"{path}: not UTF-8 text ({error}); save it as UTF-8.") from error


def read_json_rows(path: Path) -> list[dict[str, object]]:
    """Read a JSON array, JSON lines or concatenated JSON objects, whatever the suffix says.

    The field ships the same data in all three forms under one name; ".gz" is unpacked.

    Raises:
        FileNotFoundError: no such file.
        ValueError: broken json or a row that is no object; names file and line.
    """
    _require_file(path)
    rows: list[dict[str, object]] = []
    for line, value in _values(path, read_text(path)):
        items = value if isinstance(value, list) else [value]
        for item in items:
            if not isinstance(item, dict):
                raise ValueError(
                    f"{path}, line {line}: expected an object with fields, found {item!r:.60}."
                )
            rows.append(item)
    return rows


def _values(path: Path, text: str) -> Iterator[tuple[int, object]]:
    decoder = json.JSONDecoder()
    position, line = 0, 1
    while True:
        start = position
        while position < len(text) and text[position].isspace():
            position += 1
        line += text.count("\n", start, position)
        if position == len(text):
            return
        try:
            value, end = decoder.raw_decode(text, position)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{path}, line {error.lineno}: broken json ({error.msg}); "
                "repair or remove the line."
            ) from error
        yield line, value
        line += text.count("\n", position, end)
        position = end
