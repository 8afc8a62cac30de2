"""Tables: every form the field ships, and every way in which one can be broken."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from openpyxl import Workbook

from eval.rows import read_json_rows, read_rows, require_ids

ROWS = [{"question_id": 1, "text": "Yes"}, {"question_id": 2, "text": "No\nreally"}]


@pytest.mark.parametrize(
    "text",
    [
        "".join(json.dumps(row) + "\n" for row in ROWS),
        "\n\n".join(json.dumps(row) for row in ROWS),
        "".join(json.dumps(row, indent=4) + "\n" for row in ROWS),
        json.dumps(ROWS),
        json.dumps(ROWS, indent=2) + "\n\n",
        "\ufeff" + json.dumps(ROWS),
        "".join(json.dumps(row) + "\r\n" for row in ROWS),
    ],
    ids=["lines", "gaps", "concatenated", "array", "pretty array", "BOM", "CRLF"],
)
@pytest.mark.parametrize("packed", [False, True])
def test_forms(tmp_path: Path, text: str, packed: bool) -> None:
    path = tmp_path / ("a.json.gz" if packed else "a.json")
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    assert read_json_rows(path) == ROWS


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"question_id": 1, "text": "Yes"}\n{"question_id": 2, "te', r"line 2: broken json"),
        (b'{"question_id": 1}\n\n[1, 2]', "line 3: expected an object"),
        (b'"yes"', "line 1: expected an object"),
        (b"\xff\xfe\x00", "not UTF-8"),
    ],
)
def test_broken_files(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_json_rows(path)


def test_truncated_gzip_and_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json.gz"
    path.write_bytes(gzip.compress(b"x" * 1000)[:20])
    with pytest.raises(ValueError, match="not UTF-8 text"):
        read_json_rows(path)
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_json_rows(tmp_path / "none.json")


CELLS = [["index", "prediction"], [1, "Yes"], [2, 'No,\n"really"'], [3, ""]]


def test_tables_of_three_suffixes(tmp_path: Path) -> None:
    quoted = 'No,\n""really""'
    for name, cell in (("a.csv", ","), ("a.tsv", "\t")):
        text = f'index{cell}prediction\n1{cell}Yes\n2{cell}"{quoted}"\n3{cell}\n'
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + text.encode())
        assert [list(row.values()) for row in read_rows(tmp_path / name)] == [
            ["1", "Yes"], ["2", 'No,\n"really"'], ["3", ""],
        ]  # fmt: skip
    book = Workbook()
    for line in CELLS:
        book.worksheets[0].append(line)
    book.save(tmp_path / "a.xlsx")
    assert [list(row.values()) for row in read_rows(tmp_path / "a.xlsx")] == CELLS[1:]


def test_line_ends_of_a_sheet(tmp_path: Path) -> None:
    """Excel writes a carriage return as _x000D_."""
    book = Workbook()
    for line in (["index", "prediction"], [1, "Yes_x000D_\nNo"]):
        book.worksheets[0].append(line)
    book.save(tmp_path / "a.xlsx")
    assert read_rows(tmp_path / "a.xlsx") == [{"index": 1, "prediction": "Yes\r\nNo"}]


@pytest.mark.parametrize("reader", [read_rows, read_json_rows])
def test_a_folder_is_no_table(
    tmp_path: Path, reader: Callable[[Path], list[dict[str, object]]]
) -> None:
    with pytest.raises(ValueError, match="a folder where a file is wanted"):
        reader(tmp_path)


@pytest.mark.parametrize(
    ("ids", "message"),
    [([], "a.json: no rows"), (["1", "2", "1"], "a.json: image_id 1 stands twice")],
)
def test_ids_that_name_no_rows(ids: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        require_ids(Path("a.json"), "image_id", ids)
    require_ids(Path("a.json"), "image_id", ["1", "2"])


def test_a_picture_in_a_field_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("index\timage\n1\t" + "A" * 1_000_000 + "\n")
    assert len(str(read_rows(path)[0]["image"])) == 1_000_000


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_empty_lines_of_a_table_are_no_rows(tmp_path: Path, end: str) -> None:
    path = tmp_path / "a.tsv"
    path.write_bytes(end.join(["index\tprediction", "1\tYes", "", "2\tNo", "", ""]).encode())
    rows = [{"index": "1", "prediction": "Yes"}, {"index": "2", "prediction": "No"}]
    assert read_rows(path) == rows


def test_broken_tables(tmp_path: Path) -> None:
    ragged = tmp_path / "a.tsv"
    ragged.write_text("index\tprediction\n1\tYes\tNo\n")
    with pytest.raises(ValueError, match="line 2: 3 fields where the header has 2"):
        read_rows(ragged)
    no_book = tmp_path / "a.xlsx"
    no_book.write_bytes(b"index,prediction")
    with pytest.raises(ValueError, match="no readable xlsx"):
        read_rows(no_book)
    latin = tmp_path / "a.csv"
    latin.write_bytes("index,prediction\n1,caf\xe9\n".encode("latin-1"))
    with pytest.raises(ValueError, match="not UTF-8"):
        read_rows(latin)
