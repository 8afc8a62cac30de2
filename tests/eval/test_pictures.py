"""Pictures by name: files, and base64 cells of tables; parquet cells are test_edit_accuracy's."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import pytest
from PIL import Image

from eval.pictures import cell_name, check_images, open_picture, picture_files

RED, BLUE = (255, 0, 0), (0, 0, 255)


def encoded(colour: tuple[int, int, int]) -> str:
    buffer = io.BytesIO()
    # Large enough for a cell of more than csv's own limit of 128 KiB.
    Image.new("RGB", (300, 200), colour).save(buffer, "BMP")
    return base64.b64encode(buffer.getvalue()).decode()


def write_table(path: Path, cells: list[str]) -> None:
    if path.suffix == ".tsv":
        lines = ["index\timage", *(f"{number}\t{cell}" for number, cell in enumerate(cells))]
        path.write_text("\n".join(lines) + "\n")
    else:
        path.write_text("".join(json.dumps({"image": cell}) + "\n" for cell in cells))


@pytest.mark.parametrize("name", ["t.tsv", "t.jsonl"])
def test_cells_of_text_tables(tmp_path: Path, name: str) -> None:
    write_table(tmp_path / name, [encoded(RED), encoded(BLUE)])
    for row, colour in enumerate((RED, BLUE)):
        picture = open_picture(tmp_path, cell_name(name, row, "image"))
        assert (picture.size, picture.getpixel((0, 0))) == ((300, 200), colour)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (cell_name("t.tsv", 0, "image"), r"t.tsv, row 1: no base64 picture in image"),
        (cell_name("t.tsv", 1, "image"), r"t.tsv 1:image: the picture cannot be decoded"),
        (cell_name("t.tsv", 2, "image"), r"t.tsv 2:image: the picture cannot be decoded"),
        (cell_name("t.tsv", 9, "image"), r"t.tsv, row 10: no base64 picture in image"),
        (cell_name("t.tsv", 0, "picture"), r"the picture cannot be decoded"),
    ],
)
def test_bad_cells(tmp_path: Path, cell: str, message: str) -> None:
    write_table(tmp_path / "t.tsv", ["a picture, no?", "QUJD", ""])
    with pytest.raises(ValueError, match=message):
        open_picture(tmp_path, cell)


def test_a_table_counts_once_among_files(tmp_path: Path) -> None:
    names = ["a.jpg", *(cell_name("t.tsv", row, "image") for row in range(3))]
    assert picture_files(names) == ["a.jpg", "t.tsv"]
    (tmp_path / "t.tsv").touch()
    with pytest.raises(FileNotFoundError, match=r"a.jpg: no such picture \(1 of"):
        check_images(tmp_path, names)
    with pytest.raises(FileNotFoundError, match=r"gone.tsv: no such picture"):
        open_picture(tmp_path, cell_name("gone.tsv", 0, "image"))
