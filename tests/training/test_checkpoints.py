"""Checkpoints cut short, damaged, on a full disk, and asked for by a signal."""

import errno
import io
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from transformers import Trainer, TrainerCallback

from mllm.directory import SUMS, sums
from tests.tiny_llava import example_rows, write_language_model, write_rows, write_tower
from training.arguments import StageArguments
from training.checkpoints import Sums, last_checkpoint, require_sound
from training.row_order import row_order
from training.stage import StageTrainer, run_stage

ROOT = Path(__file__).resolve().parents[2]


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(4, 1)

    def forward(self, x):
        return {"loss": self.layer(x).square().mean()}


def trainer(output_dir, **changes):
    settings = {
        **{"max_steps": 6, "save_steps": 2, "save_total_limit": 2, "logging_steps": 1},
        **{"use_cpu": True, "report_to": "none", "disable_tqdm": True},
    }
    args = StageArguments(output_dir=str(output_dir), **{**settings, **changes})
    rows = [torch.full((4,), float(number)) for number in range(16)]
    return StageTrainer(
        model=Model(),
        args=args,
        train_dataset=rows,
        train_sampler=row_order(rows, args.seed),
        data_collator=lambda some: {"x": torch.stack(some), "row_ids": ["row"] * len(some)},
    )


def save(state, directory):
    torch.save(state, directory / "weights.pt")


def test_a_checkpoint_holds_the_sums_of_its_files(tmp_path):
    run_stage(trainer(tmp_path), save)
    told = json.loads((tmp_path / "checkpoint-6" / SUMS).read_text())
    names = {path.name for path in (tmp_path / "checkpoint-6").iterdir()} - {SUMS}
    assert told.keys() == names
    told = subprocess.run(
        ["sha256sum", "optimizer.pt"], cwd=tmp_path / "checkpoint-6", capture_output=True,
        text=True, check=True,
    ).stdout.split()[0]  # fmt: skip
    assert sums(tmp_path / "checkpoint-6")["optimizer.pt"] == told
    require_sound(tmp_path / "checkpoint-6")


def test_checkpoints_are_ordered_by_number_and_those_cut_short_passed_over(tmp_path):
    for step in (9, 10, 100, 11):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / SUMS).write_text("{}")
    (tmp_path / "checkpoint-100" / SUMS).unlink()
    assert last_checkpoint(tmp_path).name == "checkpoint-11"
    assert last_checkpoint(tmp_path / "none") is None


def test_what_a_kill_left_of_checkpoints_takes_no_whole_ones_place(tmp_path):
    """Of one on a signal, at step 5, and of one that was being removed."""
    run_stage(trainer(tmp_path, save_total_limit=9), save)
    (tmp_path / "recipe.json").rename(tmp_path / "started.json")
    shutil.rmtree(tmp_path / "checkpoint-6")
    shutil.copytree(tmp_path / "checkpoint-4", tmp_path / "checkpoint-5")
    (tmp_path / "checkpoint-5" / SUMS).unlink()
    (tmp_path / "checkpoint-2/optimizer.pt").unlink()
    seen = []
    resumed = trainer(tmp_path)
    on_save = Sums.on_save

    def look(self, *told, **more):
        seen.append({path.name for path in tmp_path.glob("checkpoint-*")})
        on_save(self, *told, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Sums, "on_save", look)
        run_stage(resumed, save)
    # Until 6 has its sums, 4 is what is left if the run is killed.
    assert seen == [{"checkpoint-4", "checkpoint-6"}]


def test_a_kill_before_the_first_sums_leaves_nothing_behind(tmp_path):
    (tmp_path / "checkpoint-2").mkdir(parents=True)
    (tmp_path / "checkpoint-2/sha256.new").write_text("{")
    run_stage(trainer(tmp_path, max_steps=2), save)
    require_sound(tmp_path / "checkpoint-2")


def test_one_checkpoint_is_too_few():
    with pytest.raises(ValueError, match="keep 2, or all of them by 0"):
        trainer("nowhere", save_total_limit=1)


def test_a_flipped_bit_or_a_cut_is_found_wherever_it_is(tmp_path):
    """Fifty places in all of a checkpoint's files, its sums among them."""
    run_stage(trainer(tmp_path / "run"), save)
    whole = tmp_path / "run/checkpoint-6"
    random = np.random.default_rng(0)
    files = sorted(path.name for path in whole.iterdir() if path.stat().st_size)
    for number in range(50):
        damaged = tmp_path / "damaged"
        shutil.copytree(whole, damaged)
        file = damaged / files[number % len(files)]
        data = bytearray(file.read_bytes())
        at = int(random.integers(len(data)))
        if number % 2:
            data[at] ^= 1 << int(random.integers(8))
        file.write_bytes(data if number % 2 else data[:at])
        with pytest.raises(ValueError, match="is gone or is not what was written"):
            require_sound(damaged)
        shutil.rmtree(damaged)


def test_a_damaged_checkpoint_is_not_trained_on(tmp_path):
    run_stage(trainer(tmp_path), save)
    (tmp_path / "recipe.json").rename(tmp_path / "started.json")
    state = tmp_path / "checkpoint-6/optimizer.pt"
    state.write_bytes(state.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"optimizer\.pt is gone or is not what was written"):
        run_stage(trainer(tmp_path), save)
    shutil.rmtree(tmp_path / "checkpoint-6")
    run_stage(trainer(tmp_path), save)  # from checkpoint-4
    assert last_checkpoint(tmp_path).name == "checkpoint-6"


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    write = Trainer._save_optimizer_and_scheduler

    def full(self, output_dir):
        if self.state.global_step == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, output_dir)

    monkeypatch.setattr(Trainer, "_save_optimizer_and_scheduler", full)
    with pytest.raises(OSError, match="No space left on device"):
        run_stage(trainer(tmp_path / "out", save_total_limit=2), save)
    assert last_checkpoint(tmp_path / "out").name == "checkpoint-2"
    monkeypatch.undo()
    resumed, whole = trainer(tmp_path / "out"), trainer(tmp_path / "whole")
    run_stage(resumed, save)
    run_stage(whole, save)
    assert torch.equal(resumed.model.layer.weight, whole.model.layer.weight)


def losses(output_dir, step):
    state = json.loads((output_dir / f"checkpoint-{step}/trainer_state.json").read_text())
    return [line["loss"] for line in state["log_history"] if "loss" in line]


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_signal_saves_and_stops_and_the_same_command_goes_on(processes, tmp_path):
    """SIGTERM to all processes, those that load data among them, as schedulers and launchers send
    it; the losses are those of a run left alone."""
    tower, llm = write_tower(tmp_path / "tower"), write_language_model(tmp_path / "llm")
    rows = write_rows(tmp_path / "data", example_rows(24))
    launcher = [sys.executable]
    if processes > 1:
        launcher += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    out = tmp_path / "out"
    command = [
        *launcher, "training/pretrain_projector.py", "--vision_tower", str(tower),
        "--language_model", str(llm), "--system=", "--conversations", str(rows),
        "--max_steps", "100", "--save_steps", "1000", "--logging_steps", "1",
        "--per_device_train_batch_size", "2", "--dataloader_num_workers", "1",
        "--report_to", "none", "--disable_tqdm", "True",
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def start(output_dir):
        return subprocess.Popen(
            [*map(str, command), "--output_dir", str(output_dir)],
            cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip

    run = start(out)
    seen = []
    for line in run.stdout:
        seen.append(line)
        if "'loss'" in line:
            break
    # torchrun hands it on to every process below.
    (os.killpg if processes == 1 else os.kill)(run.pid, signal.SIGTERM)
    seen.append(run.communicate(timeout=120)[0])
    assert run.returncode != 0, "".join(seen)
    assert "Told to stop" in "".join(seen)
    stopped = int(last_checkpoint(out).name.removeprefix("checkpoint-"))
    assert 0 < stopped < 100
    assert not (out / "recipe.json").exists()
    for directory in (out, tmp_path / "whole"):
        finished = start(directory)
        told = finished.communicate(timeout=250)[0]
        assert finished.returncode == 0, told
    assert losses(out, 100) == losses(tmp_path / "whole", 100)


class Interrupted(io.RawIOBase):
    """A log on which SIGTERM comes in the middle of the first write."""

    def __init__(self):
        self.told = b""

    def writable(self):
        return True

    def write(self, data):
        if not self.told:
            self.told = b"begun "
            signal.raise_signal(signal.SIGTERM)
        self.told += bytes(data)
        return len(data)


class Prints(TrainerCallback):
    def __init__(self, stream):
        self.stream = stream

    def on_step_begin(self, args, state, control, **_):
        if state.global_step == 2:
            self.stream.write("step\n")


def test_a_signal_in_the_middle_of_a_print_stops_after_a_checkpoint(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.WARNING, "training")  # stages that other tests ran say more
    raw = Interrupted()
    stream = io.TextIOWrapper(io.BufferedWriter(raw), line_buffering=True)
    handler = logging.StreamHandler(stream)
    stage = trainer(tmp_path, save_steps=100)
    stage.add_callback(Prints(stream))
    monkeypatch.setattr(sys, "stderr", stream)
    logging.getLogger("training").addHandler(handler)
    try:
        with pytest.raises(SystemExit, match="143"):
            run_stage(stage, save)
    finally:
        logging.getLogger("training").removeHandler(handler)
    assert last_checkpoint(tmp_path).name == "checkpoint-3"
    assert b"Told to stop" in raw.told
