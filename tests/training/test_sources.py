import json

import pytest

from tests.tiny_tower import write_captions, write_edits
from training.recipe import read_recipe
from training.sources import (
    CaptionSource,
    EditSource,
    Retention,
    from_mapping,
    open_captions,
    open_edits,
    sources,
)
from training.train_vision_tower import TrainVisionTower


def test_an_entry_is_files_or_a_mapping():
    own = "{files: [b.csv, c.csv], weight: 2, image_root: d}"
    told = sources(CaptionSource, ["a/*.json", own, "e.json"])
    assert told == [
        CaptionSource(["a/*.json", "e.json"]),  # shards of one set must not weigh one by one
        CaptionSource(["b.csv", "c.csv"], 2.0, image_root="d"),
    ]
    assert CaptionSource("x").patterns == ["x"]


def test_recipe_and_flags_say_the_same(tmp_path):
    recipe = tmp_path / "a.yaml"
    recipe.write_text(
        "tower: t\nedits: [e.parquet]\noutput_dir: o\nuse_cpu: true\n"
        "captions:\n  - a.json\n  - {files: b.csv, columns: {image: file, long: detail}}\n"
    )
    by_recipe = read_recipe(TrainVisionTower, [str(recipe)])
    entries = ["a.json", "{files: b.csv, columns: {image: file, long: detail}}"]
    by_flag = read_recipe(TrainVisionTower, [str(recipe), "--captions", *entries])
    told = [sources(CaptionSource, args.captions) for args in (by_recipe, by_flag)]
    assert told[0] == told[1]
    assert told[0][1].columns == {"image": "file", "long": "detail"}


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ("{files: b, weigth: 2}", "weigth: Unexpected.*files, weight, image_root, columns"),
        ("{weight: 2}", "files: Field required"),
        ("{files: b, weight: 0}", "weight: Input should be greater than 0"),
        ("{files: b, columns: [a]}", "columns: Input should be a valid dictionary"),
        ("{files: [b}", "is not valid YAML"),
    ],
)
def test_mistakes_are_told(entry, told):
    with pytest.raises(ValueError, match=told):
        sources(CaptionSource, [entry])


def test_sets_are_opened_with_their_weights(tmp_path):
    file = write_captions(tmp_path, 3)
    captions, weights = open_captions([str(file), f"{{files: {file}, weight: 0.5}}"])
    assert ([len(part) for part in captions], weights) == ([3, 3], [1.0, 0.5])
    (tmp_path / "told.jsonl").write_text(
        json.dumps({"id": "e.parquet:1", "source_caption": "new", "target_caption": "newer"})
    )
    edits = write_edits(tmp_path / "e.parquet", 2)
    [pairs], _ = open_edits([f"{{files: {edits}, captions: [{tmp_path}/told.jsonl]}}"])
    assert [pairs[row].source_caption == "new" for row in range(2)] == [False, True]


def test_every_row_is_looked_at(tmp_path):
    file = write_captions(tmp_path, 3)
    with pytest.raises(FileNotFoundError, match=r"row 0.*elsewhere.*image_root"):
        open_captions([f"{{files: {file}, image_root: elsewhere}}"])
    open_captions([f"{{files: {file}, image_root: elsewhere}}"], images=False)


def test_retention_must_be_a_mapping():
    for text in ("a.json", "[a.json]"):
        with pytest.raises(ValueError, match="is no mapping of settings"):
            from_mapping(Retention, text)


def test_edit_sources_take_no_image_root():
    with pytest.raises(ValueError, match=r"image_root: Unexpected.*files, weight, captions"):
        sources(EditSource, ["{files: a, image_root: b}"])
