"""The benchmark of stages 3 and 4 on a model of some thousand parameters; TRL's if it is there."""

import importlib.util
import json
import sys

import pytest
import torch

from benchmarks import finetune_step
from benchmarks.finetune_rows import SIZES, write_captions, write_llava, write_rows
from benchmarks.finetune_turns import CONTENDERS, STAGES, Task, Turn, common, fovea, turn

TRL = pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="TRL is not installed")


@pytest.fixture(scope="module", params=STAGES)
def stage(request):
    return request.param


@pytest.fixture(scope="module")
def folder(stage, tmp_path_factory):
    """The LLaVA, and rows of the stage: TRL's has no gradient from texts if all but the projector
    is frozen."""
    root = tmp_path_factory.mktemp("bench")
    write_llava(root, SIZES["test"], side=28)
    STAGES[stage].write_rows(root / "rows", 24, side=28)
    return root


def test_captions_are_as_said(tmp_path):
    rows = json.loads(write_captions(tmp_path, 40, side=28).read_text())
    assert len(list(tmp_path.glob("*.jpg"))) == 40
    assert all(row["conversations"][0]["value"].startswith("<image>\n") for row in rows)
    words = [len(row["conversations"][1]["value"].split()) for row in rows]
    assert 5 <= min(words) < max(words) <= 25


def test_rows_are_as_said(tmp_path):
    rows = json.loads(write_rows(tmp_path, 24, side=28).read_text())
    alone = sum("image" not in row for row in rows)
    assert 0.2 < alone / len(rows) < 0.6
    assert {len(row["conversations"]) // 2 for row in rows} <= {1, 2, 3, 4, 5}


def test_what_learns_is_the_stages(stage, folder):
    settings = common(2, bf16=False)
    task = Task(stage, folder / "mllm", folder / "rows/rows.json", folder / "out", settings)
    parameters = fovea(task).model.named_parameters()
    more = {"language_model", "weight"} if stage == "finetune" else set()  # the head's weight
    learning = {name.split(".")[1] for name, one in parameters if one.requires_grad}
    assert learning == {"multi_modal_projector"} | more


@pytest.mark.parametrize("contender", [
    "fovea", "fovea, batch_tokens",
    pytest.param("trl", marks=TRL), pytest.param("trl, grouped", marks=TRL),
])  # fmt: skip
def test_a_turn_tells_speed_padding_and_memory(contender, stage, folder):
    told = turn(contender, stage, folder, common(2, bf16=False), batch_tokens=2048)
    assert told["supervised_tokens_per_second"] > 0
    assert told["tokens_per_second"] > told["supervised_tokens_per_second"]
    assert (told["padding_share"] == 0) == contender.startswith("fovea")
    assert told["peak_mib"] > -1  # the system's two counts may differ by some pages


def test_tokens_of_an_epoch_are_counted(monkeypatch):
    class Trainer:
        def data_collator(self, rows):
            labels = torch.tensor([[1, -100, 2, -100], [3, -100, -100, -100]])
            return {"labels": labels, "attention_mask": torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]])}

    clock = iter([10.0, 15.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    trainer = Trainer()
    watch = Turn(trainer, "cpu")
    watch.on_epoch_begin(None, None, None)
    for _ in range(2):
        trainer.data_collator([])
    assert watch.told() == {
        "supervised_tokens_per_second": 6 / 5,
        "tokens_per_second": 10 / 5,
        "padding_share": 1 - 10 / 16,
    }


def test_the_command_writes_turns_and_ratios(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(finetune_step, "version", lambda _: "0")
    monkeypatch.setattr(sys, "argv", ["finetune_step.py"])
    speed = {"trl": 10.0, "trl, grouped": 20.0, "fovea": 30.0, "fovea, batch_tokens": 50.0}
    told = {"padding_share": 0.1, "tokens_per_second": 1.0, "peak_mib": 100.0}

    def turns(name, folder, argv):
        assert (folder / "mllm/model.safetensors").is_file()
        return {**told, "supervised_tokens_per_second": speed[name]}

    monkeypatch.setattr(finetune_step, "in_a_process", turns)
    output = tmp_path / "told.json"
    flags = ["--size", "test", "--rows", "4", "--repeats", "2", "--output", str(output)]
    finetune_step.main(flags)
    written = json.loads(output.read_text())
    assert written["turns"].keys() == CONTENDERS.keys()
    assert [len(seen) for seen in written["turns"].values()] == [2] * 4
    out = capsys.readouterr().out
    for ratio in ("0.50", "1.00", "1.50", "2.50"):
        assert ratio in out
