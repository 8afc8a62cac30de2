"""The benchmark of stage 4 on a model of a few thousand parameters; TRL's turns where it is."""

import importlib.util
import json
import sys

import pytest
import torch

from benchmarks import finetune_step
from benchmarks.finetune_rows import SIZES, write_llava, write_rows
from benchmarks.finetune_turns import CONTENDERS, Turn, common, turn

TRL = pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="TRL is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("bench")
    write_llava(root, SIZES["test"], side=28)
    write_rows(root / "rows", 24, side=28)
    return root


def test_rows_are_as_said(folder):
    rows = json.loads((folder / "rows/rows.json").read_text())
    alone = sum("image" not in row for row in rows)
    assert 0.2 < alone / len(rows) < 0.6
    assert {len(row["conversations"]) // 2 for row in rows} <= {1, 2, 3, 4, 5}


@pytest.mark.parametrize("contender", [
    "fovea", "fovea, batch_tokens",
    pytest.param("trl", marks=TRL), pytest.param("trl, grouped", marks=TRL),
])  # fmt: skip
def test_a_turn_tells_speed_padding_and_memory(contender, folder):
    told = turn(contender, folder, common(2, bf16=False), batch_tokens=2048)
    assert told["supervised_tokens_per_second"] > 0
    assert told["tokens_per_second"] > told["supervised_tokens_per_second"]
    assert (told["padding_share"] == 0) == contender.startswith("fovea")
    assert told["peak_mib"] >= 0


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
