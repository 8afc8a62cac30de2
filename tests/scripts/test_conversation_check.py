import json
import sys

import pytest
import yaml

from mllm.assemble import assemble
from scripts import check_data
from tests.mllm.families import FAMILIES, write_tokenizer
from tests.tiny_llava import example_rows, row, write_language_model, write_rows, write_tower


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    root = tmp_path_factory.mktemp("parts")
    tower, llm = write_tower(root / "tower"), write_language_model(root / "llm")
    assemble(str(tower), str(llm), root / "mllm", system="")
    return root


def run(folder, stage, rows, monkeypatch, capsys, *flags, **settings):
    file = write_rows(folder, rows)
    told = {"conversations": [str(file)], "output_dir": str(folder / "out"), **stage, **settings}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(told))
    argv = ["check_data.py", str(folder / "recipe.yaml"), "--workers", "0", *flags]
    monkeypatch.setattr(sys, "argv", [*argv, "--output", str(folder / "check")])
    with pytest.raises(SystemExit) as ended:
        check_data.main()
    found = json.loads((folder / "check/report.json").read_text())
    return ended.value.code, found, capsys.readouterr().out


def stages(parts):
    model = {"model": str(parts / "mllm"), "tune_vision_tower": False}
    made_of = {"vision_tower": str(parts / "tower"), "language_model": str(parts / "llm")}
    return {"finetune": model, "pretrain_projector": {**made_of, "system": ""}}


@pytest.mark.parametrize("stage", ["finetune", "pretrain_projector"])
def test_sound_rows_of_both_stages(stage, parts, tmp_path, monkeypatch, capsys):
    rows = [*example_rows(), {"id": "m", "messages": [
        {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}]  # fmt: skip
    status, [told], out = run(tmp_path, stages(parts)[stage], rows, monkeypatch, capsys)
    assert status == 0
    assert (told["rows"], told["checked"], told["broken"]) == (17, 17, 0)
    assert told["pictures"] == {"0": 5, "1": 12}
    assert told["answers"]["most"] == 2
    assert 0 < told["learned_share"] < 1
    assert "12 rows" in out
    assert (tmp_path / "check/lengths.png").stat().st_size > 1000


def test_both_stages_read_a_row_alike(parts, tmp_path, monkeypatch, capsys):
    told = []
    for stage in stages(parts).values():
        _, [found], _ = run(tmp_path, stage, example_rows(), monkeypatch, capsys)
        told.append(found)
    assert told[0] == told[1]


def test_broken_rows_are_all_told(parts, tmp_path, monkeypatch, capsys):
    rows = [
        *example_rows(8),
        row("gone", "gone.png", "what", "one"),
        row("long", None, "what " * 200, "one"),
        row("place", None, "<image> what", "one"),
        row("empty", None, "what", " "),
        {"id": "roles", "conversations": [{"from": "tool", "value": "x"}]},
        row("cut", "cut.png", "what", "one"),
    ]
    write_rows(tmp_path, rows)

    def damage(folder, data, name="rows.json"):
        (folder / "cut.png").write_bytes((folder / "cut.png").read_bytes()[:60])
        (folder / "gone.png").unlink(missing_ok=True)
        return folder / name

    monkeypatch.setattr(sys.modules[__name__], "write_rows", damage)
    stage = stages(parts)["finetune"]
    status, [told], out = run(tmp_path, stage, rows, monkeypatch, capsys, max_length=64)
    assert status == 1
    assert told["broken"] == 6
    for problem, words in zip(
        told["problems"],
        ["gone.png", "nothing is left", "0 pictures and 1", "no text", "turn 0", "cannot be deco"],
        strict=True,
    ):
        assert words in problem
    assert out.count("broken: ") == 5
    status, *_ = run(
        tmp_path, stage, rows, monkeypatch, capsys, max_length=64, quarantine_budget=0.5
    )
    assert status == 0


def test_a_system_sentence_that_has_no_place_is_one_broken_row(
    parts, tmp_path, monkeypatch, capsys
):
    write_tokenizer(FAMILIES["gemma2"], tmp_path / "llm")
    opened = row("opened", None, "what", "one")
    opened["conversations"].insert(0, {"from": "system", "value": "be brief"})
    stage = {"vision_tower": str(parts / "tower"), "language_model": str(tmp_path / "llm")}
    rows = [*example_rows(3), opened]
    status, [told], _ = run(
        tmp_path, stage, rows, monkeypatch, capsys, "--show", "4", quarantine_budget=0.25
    )
    assert status == 0
    [problem] = told["problems"]
    assert "rows.json: row 3 (id opened): " in problem
    assert "'system' cannot stand here" in problem


def test_rows_can_be_looked_at(parts, tmp_path, monkeypatch, capsys):
    stage = stages(parts)["finetune"]
    _, _, out = run(tmp_path, stage, example_rows(4), monkeypatch, capsys, "--show", "2")
    assert "(id r0)" in out
    assert "USER: <image>" in out
    assert "<image><image>" not in out
    assert "a blue circle</s>" in out
    assert "(id r2)" not in out


def test_a_sample_is_spread_evenly(parts, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(check_data, "FAST", 3)
    stage = stages(parts)["finetune"]
    _, [told], _ = run(tmp_path, stage, example_rows(9), monkeypatch, capsys, "--fast")
    assert (told["rows"], told["checked"]) == (9, 3)
