import json
import shutil
import sys

import pytest
import yaml

from scripts import check_data
from tests.tiny_tower import SIZE, write_captions, write_edits, write_tower


@pytest.fixture
def recipe(tmp_path):
    write_captions(tmp_path, 30)
    write_edits(tmp_path / "edits.parquet", 6)
    told = {
        "tower": str(write_tower(tmp_path / "tower")),
        "captions": [{"files": str(tmp_path / "captions.json"), "weight": 2}],
        "edits": [str(tmp_path / "edits.parquet")],
        "output_dir": str(tmp_path / "out"),
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(told))
    return tmp_path / "recipe.yaml"


def run(recipe, monkeypatch, capsys, *flags):
    output = recipe.parent / "check"
    argv = ["check_data.py", str(recipe), "--output", str(output), "--workers", "0", *flags]
    monkeypatch.setattr(sys, "argv", argv)
    with pytest.raises(SystemExit) as ended:
        check_data.main()
    found = json.loads((output / "report.json").read_text()) if output.is_dir() else None
    told = capsys.readouterr()
    return ended.value.code, found, f"{told.out}{told.err}{ended.value.code}"


def test_sound_data(recipe, monkeypatch, capsys):
    status, [captions, edits], out = run(recipe, monkeypatch, capsys)
    assert status == 0
    assert (captions["rows"], captions["checked"], captions["broken"]) == (30, 30, 0)
    assert (edits["rows"], list(edits["tokens"])) == (6, ["source", "edited"])
    assert captions["shorter_side"]["median"] == SIZE
    rows = json.loads((recipe.parent / "captions.json").read_text())
    # Each word is a token; beside them two full stops, the start and the end.
    lengths = [len(row["conversations"][1]["value"].split()) + 4 for row in rows]
    assert captions["tokens"]["long"]["least"] == min(lengths)
    assert captions["tokens"]["long"]["most"] == max(lengths)
    assert captions["cut"] == {"short": 0, "long": sum(length > 77 for length in lengths)}
    assert "long captions" in out
    assert "longer than the 77 that are read" in out
    assert (recipe.parent / "check" / "lengths.png").stat().st_size > 1000


def test_stage_1_reads_no_pictures_and_cuts_at_the_teachers_window(recipe, monkeypatch, capsys):
    told = yaml.safe_load(recipe.read_text())
    del told["edits"]
    recipe.write_text(yaml.safe_dump(told | {"context_length": 248}))
    shutil.rmtree(recipe.parent / "images")
    status, [captions], _ = run(recipe, monkeypatch, capsys)
    assert (status, captions["broken"], captions["shorter_side"]) == (0, 0, {})
    assert captions["cut"]["long"] > 0


def test_broken_rows_are_all_told(recipe, monkeypatch, capsys):
    rows = json.loads((recipe.parent / "captions.json").read_text())
    rows[5] = rows[6]
    (recipe.parent / "captions.json").write_text(json.dumps(rows))
    for number in (8, 9):
        picture = recipe.parent / "images" / f"{number}.png"
        picture.write_bytes(picture.read_bytes()[:60])
    status, [captions, edits], out = run(recipe, monkeypatch, capsys)
    assert status == 1
    assert edits["broken"] == 0
    assert (captions["broken"], captions["same_words"], captions["same_pictures"]) == (2, 1, 1)
    for told, row in zip(captions["problems"], (8, 9), strict=True):
        assert f"captions.json row {row} " in told
        assert told in out
    recipe.write_text(recipe.read_text() + "quarantine_budget: 0.1\n")
    assert run(recipe, monkeypatch, capsys)[0] == 0, "two rows of thirty"
    rows[3]["image"] = "images/none.png"
    rows[4]["conversations"] = []
    (recipe.parent / "captions.json").write_text(json.dumps(rows))
    status, [captions, _], _ = run(recipe, monkeypatch, capsys)
    assert (status, captions["broken"], captions["stop_at_once"]) == (1, 4, 2)


def test_fast_takes_a_sample(recipe, monkeypatch, capsys):
    monkeypatch.setattr(check_data, "FAST", 10)
    _, [captions, edits], _ = run(recipe, monkeypatch, capsys, "--fast")
    assert (captions["rows"], captions["checked"], edits["checked"]) == (30, 10, 6)


def test_an_entry_that_cannot_be_opened_does_not_hide_the_others(recipe, monkeypatch, capsys):
    told = yaml.safe_load(recipe.read_text())
    told["captions"].append("none.json")  # beside a mapping: a set of its own
    recipe.write_text(yaml.safe_dump(told))
    status, found, out = run(recipe, monkeypatch, capsys)
    assert (status, len(found)) == (1, 2)
    assert "none.json: no file 'none.json'" in out


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("tower: nowhere\ncaptions: [a]\noutput_dir: o\n", "'nowhere' is neither"),
        ("captions: [a]\n", "nothing is given for tower"),
        ("tower: a\nconversations: [a]\n", "is no recipe: no stage has"),
        ("{", "expected"),
    ],
)
def test_what_is_no_recipe_is_told(recipe, text, told, monkeypatch, capsys):
    recipe.write_text(text)
    _, found, out = run(recipe, monkeypatch, capsys)
    assert found is None
    assert told in out
