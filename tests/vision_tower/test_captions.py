import json

import pytest

from tests.tiny_tower import write_captions
from vision_tower.caption_formats import first_sentence
from vision_tower.captions import Captions


def write(directory, rows):
    (directory / "captions.json").write_text(json.dumps(rows))
    return [directory / "captions.json"]


def row(**changes):
    turns = [{"from": "human", "value": "<image>"}, {"from": "gpt", "value": "A cat. It\nsleeps."}]
    return {"id": "a", "image": "a.jpg", "conversations": turns} | changes


def refused(files, directory, error, *told):
    with pytest.raises(error) as caught:
        Captions(files, directory).check()
    for words in told:
        assert words in str(caught.value)


@pytest.mark.parametrize(
    ("caption", "short"),
    [
        ("A cat. It sleeps.", "A cat"),
        ("One sentence.", "One sentence"),
        ("No stop", "No stop"),
        ("Version 2.5 of a cat. Two", "Version 2.5 of a cat"),
    ],
)
def test_first_sentence(caption, short):
    assert first_sentence(caption) == short


def test_reads_files_in_order(tmp_path):
    file = write_captions(tmp_path, 3)
    captions = Captions([file, file], tmp_path)
    captions.check()
    names = [captions.stored(row).image.name for row in range(len(captions))]
    assert names == ["0.png", "1.png", "2.png"] * 2
    assert captions[1].row == f"{file} row 1 (id c1)"
    assert captions[1].long.startswith(captions[1].short + ". ")


def test_line_breaks_are_spaces(tmp_path):
    caption = Captions(write(tmp_path, [row()]), tmp_path).texts(0)
    assert (caption.short, caption.long) == ("A cat", "A cat. It sleeps.")


def test_missing_pictures_are_told_before_training(tmp_path):
    files = write(tmp_path, [row(), row(id="b", image="b.jpg")])
    told = (f"{files[0]} row 0 (id a)", str(tmp_path / "a.jpg"), "2 missing", "image_root")
    refused(files, tmp_path, FileNotFoundError, *told)


@pytest.mark.parametrize(
    "broken",
    [
        row(conversations=[{"from": "human", "value": "?"}]),
        row(conversations="text"),
        row(conversations=[{"from": "gpt", "value": None}]),
        {"id": "a", "image": "a.jpg"},
        {"id": "a", "conversations": []},
    ],
)
def test_broken_rows_are_named(tmp_path, broken):
    refused(write(tmp_path, [row(), broken]), tmp_path, ValueError, "row 1", "Mend or remove")


def test_an_empty_caption_is_named(tmp_path):
    empty = row(conversations=[{"from": "gpt", "value": " \n"}])
    refused(write(tmp_path, [empty]), tmp_path, ValueError, "row 0 (id a)", "empty")


def test_broken_files_are_named(tmp_path):
    refused([tmp_path / "none.json"], tmp_path, FileNotFoundError, "none.json", "give files")
    refused(write(tmp_path, {"a": 1}), tmp_path, ValueError, "captions.json", "ShareGPT4V: image")
    refused(write(tmp_path, []), tmp_path, ValueError, "captions.json cannot be read", "no data")
    mixed = [row(), "text"]
    refused(write(tmp_path, mixed), tmp_path, ValueError, "captions.json cannot be read", "in row")
    (tmp_path / "captions.json").write_text("[{")
    refused([tmp_path / "captions.json"], tmp_path, ValueError, "captions.json cannot be read")
