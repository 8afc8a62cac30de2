"""Going on with a file of rows: nothing is lost, doubled or mixed."""

import json

import pytest

from vision_tower.journal import resume

ROWS = [{"id": "a", "text": "one\u2028two"}, {"id": "b", "text": "dög"}]
MADE_BY = {"model": "m", "words": ["x", "y"]}


@pytest.fixture
def path(tmp_path):
    """A file with both rows in a folder that is made for it."""
    file = tmp_path / "new" / "rows.jsonl"
    assert resume(file, MADE_BY) == []
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS))
    return file


def test_rows_come_back_as_they_were(path):
    assert resume(path, MADE_BY) == ROWS


@pytest.mark.parametrize("cut", [1, 2, 10])
def test_half_a_line_is_cut_off(path, cut):
    path.write_bytes(path.read_bytes()[:-cut])
    assert resume(path, MADE_BY) == ROWS[:1]
    assert path.read_bytes().endswith(b"}\n")


def test_rows_made_by_something_else_are_not_continued(path):
    with pytest.raises(ValueError, match="made with another words; remove the file"):
        resume(path, {**MADE_BY, "words": ["x"]})


def test_a_broken_line_is_named(path):
    path.write_text("no json\n" + path.read_text())
    with pytest.raises(ValueError, match=r"rows\.jsonl line 1 is no json.*remove the line"):
        resume(path, MADE_BY)
