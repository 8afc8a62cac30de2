import datasets
import numpy as np
import pytest

from tests.tiny_tower import edit_row, encoded, picture, write_edits
from vision_tower.edits import Edits


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def write(file, rows):
    datasets.Dataset.from_list(rows).to_parquet(file)
    return [file]


def test_rows_of_several_files_keep_their_place(tmp_path):
    files = [write_edits(tmp_path / f"{name}.parquet", rows) for name, rows in (("a", 3), ("b", 2))]
    for edits in (Edits(files), Edits([str(tmp_path / "?.parquet")])):
        assert len(edits) == 5
        assert [edits[row].row for row in (0, 2, 3, 4)] == [
            f"{files[0]} row 0",
            f"{files[0]} row 2",
            f"{files[1]} row 0",
            f"{files[1]} row 1",
        ]


def test_structs_raw_bytes_and_typed_images_are_the_same_edit(tmp_path):
    row = edit_row(np.random.default_rng(0))
    raw = {**row, **{name: row[name]["bytes"] for name in ("source_image", "edited_image")}}
    typed = datasets.Dataset.from_list([row])
    for name in ("source_image", "edited_image"):
        typed = typed.cast_column(name, datasets.Image())
    typed.to_parquet(tmp_path / "typed.parquet")
    files = write(tmp_path / "s.parquet", [row]) + write(tmp_path / "r.parquet", [raw])
    for file in [*files, tmp_path / "typed.parquet"]:
        edit = Edits([file])[0]
        assert encoded(edit.source_image) == row["source_image"]["bytes"]
        assert encoded(edit.edited_image) == row["edited_image"]["bytes"]
        assert (edit.source_caption, edit.edited_caption) == (
            row["source_caption"],
            row["target_caption"],
        )
        assert edit.instruction == row["edit_prompt"]


def test_a_struct_may_hold_a_path(tmp_path):
    row = edit_row(np.random.default_rng(0))
    picture(np.random.default_rng(5)).save(tmp_path / "x.png")
    row["source_image"] = {"bytes": None, "path": str(tmp_path / "x.png")}
    # A first row with bytes tells arrow the column's type.
    edits = Edits(write(tmp_path / "a.parquet", [edit_row(np.random.default_rng(1)), row]))
    assert encoded(edits[1].source_image) == (tmp_path / "x.png").read_bytes()


def test_a_missing_column_is_told_at_once(tmp_path):
    row = edit_row(np.random.default_rng(0))
    row["output"] = row.pop("target_caption")
    with pytest.raises(
        ValueError, match=r"a\.parquet has the columns .*output.*Rename.*UltraEdit: source"
    ):
        Edits(write(tmp_path / "a.parquet", [row]))


def test_files_that_are_no_edits_are_told(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none.*give files"):
        Edits([tmp_path / "none*.parquet"])
    (tmp_path / "a.parquet").write_text("text")
    with pytest.raises(ValueError, match=r"a\.parquet is not parquet"):
        Edits([tmp_path / "a.parquet"])


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        (
            "edited_image",
            {"bytes": b"\x89PNG broken", "path": None},
            "edited_image.*cannot be decoded",
        ),
        ("source_image", None, "source_image.*no picture"),
    ],
)
def test_a_broken_row_is_named(tmp_path, name, value, told):
    good, bad = edit_row(np.random.default_rng(0)), edit_row(np.random.default_rng(1))
    edits = Edits(write(tmp_path / "a.parquet", [good, {**bad, name: value}]))
    assert edits[0].row
    with pytest.raises(ValueError, match=rf"a\.parquet row 1.*{told}"):
        edits[1]


@pytest.mark.parametrize("value", ["", None])
def test_an_empty_caption_is_told_at_once(tmp_path, value):
    good, bad = edit_row(np.random.default_rng(0)), edit_row(np.random.default_rng(1))
    files = write(tmp_path / "a.parquet", [good, {**bad, "target_caption": value}])
    with pytest.raises(ValueError, match=r"a\.parquet row 1: a caption is empty \(1 of 2"):
        Edits(files)
