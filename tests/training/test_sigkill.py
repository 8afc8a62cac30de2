"""SIGKILL at random moments of stages 3 and 4, while they save too: nothing older than the last
save is lost, and not a bit differs from a run that was left alone."""

import json
import multiprocessing
import os
import re
import signal
import sys
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mllm.assemble import assemble
from mllm.directory import SUMS
from tests.tiny_llava import example_rows, write_language_model, write_rows, write_tower
from training import finetune, pretrain_projector
from training.checkpoints import last_checkpoint, require_sound

STEPS, SAVE_STEPS = 60, 4
ADAPTERS = "rank: 4, alpha: 8, dropout: 0.1"
STAGE_4 = {
    "full": [],
    "lora": ["--lora", f"{{{ADAPTERS}}}"],
    "qlora": ["--lora", f"{{{ADAPTERS}, quantized: true}}"],
}
# Runs begin where one process has read the libraries, and are processes of their own.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["training.finetune", "training.pretrain_projector", "peft"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("sigkill")
    tower, llm = write_tower(root / "tower"), write_language_model(root / "llm", width=64)
    assemble(str(tower), str(llm), root / "start", system="")
    write_rows(root / "data", example_rows(24))
    return root


def train(kind, folder, out):
    """Begin, or go on, in this process; what is told goes to a file."""
    with (out / "told").open("w", buffering=1) as told:
        sys.stdout = sys.stderr = told
        if kind == "projector":
            main, flags = pretrain_projector.main, ["--vision_tower", folder / "tower"]
            flags += ["--language_model", folder / "llm", "--system="]
        else:
            main, flags = finetune.main, ["--model", folder / "start", *STAGE_4[kind]]
        main([
            *map(str, flags), "--conversations", str(folder / "data/rows.json"),
            "--output_dir", str(out), "--max_steps", str(STEPS), "--save_steps", str(SAVE_STEPS),
            "--per_device_train_batch_size", "4", "--learning_rate", "1e-3", "--warmup_steps", "0",
            "--logging_steps", "1", "--report_to", "none", "--disable_tqdm", "True",
        ])  # fmt: skip


class Run:
    """A run in `out`, the next of those that go on there."""

    def __init__(self, kind, folder, out):
        self.out = out
        (out / "told").write_text("")
        self.began_at = last_checkpoint(out)
        self._before = set(out.glob("checkpoint-*"))
        self.process = PROCESSES.Process(target=train, args=(kind, folder, out))
        self.process.start()

    def losses(self):
        """As they were printed, of whole lines."""
        return re.findall(r"'loss': '([^']+)'.*\n", self.told())

    def told(self):
        return (self.out / "told").read_text()

    def saves(self):
        """Whether a checkpoint is written at this moment."""
        new = set(self.out.glob("checkpoint-*")) - self._before
        return any(not (path / SUMS).is_file() for path in new)

    def wait_for(self, moment):
        while self.process.is_alive() and not moment():
            time.sleep(0.001)

    def wait_for_steps(self, steps):
        self.wait_for(lambda: len(self.losses()) >= steps)

    def kill(self):
        """Returns the checkpoint that was whole before."""
        kept = last_checkpoint(self.out)
        self.process.kill()
        self.process.join()
        return kept


def while_it_trains(run, random):
    run.wait_for_steps(random.integers(1, 2 * SAVE_STEPS))
    time.sleep(random.uniform(0, 0.03))


def while_it_saves(run, random):
    run.wait_for(run.saves)
    time.sleep(random.uniform(0, 0.03))


def while_it_saves_on_a_signal(run, random):
    """As schedulers do that lose patience: at any step, SIGTERM and then SIGKILL."""
    run.wait_for_steps(random.integers(1, SAVE_STEPS))
    if run.process.is_alive():
        os.kill(run.process.pid, signal.SIGTERM)
    while_it_saves(run, random)


def while_it_writes_the_result(run, random):
    run.wait_for(lambda: "Saving the result" in run.told())
    time.sleep(random.uniform(0, 0.01))


MOMENTS = [
    *[while_it_trains, while_it_saves, while_it_trains, while_it_saves_on_a_signal] * 4,
    *[while_it_writes_the_result] * 4,
]


def number(checkpoint):
    return 0 if checkpoint is None else int(checkpoint.name.removeprefix("checkpoint-"))


def logged(out):
    state = json.loads((out / f"checkpoint-{STEPS}/trainer_state.json").read_text())
    return [line["loss"] for line in state["log_history"] if "loss" in line]


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", ["projector", *STAGE_4])
def test_twenty_kills_lose_nothing_and_change_nothing(kind, folder, tmp_path):
    random = np.random.default_rng(len(kind))
    whole, out = tmp_path / "whole", tmp_path / "out"
    for directory in (whole, out):
        directory.mkdir()
    left_alone = Run(kind, folder, whole)
    left_alone.process.join()
    assert left_alone.process.exitcode == 0, left_alone.told()
    expected = left_alone.losses()
    assert len(expected) == STEPS
    cut_short = 0
    for moment in MOMENTS:
        run = Run(kind, folder, out)
        moment(run, random)
        kept = run.kill()
        told = run.told()
        assert run.process.exitcode in (-signal.SIGKILL, 0, 128 + signal.SIGTERM), told
        start = number(run.began_at)
        assert (f"Going on from {run.began_at}." in told) == (run.began_at is not None)
        assert run.losses() == expected[start : start + len(run.losses())], moment.__name__
        found = last_checkpoint(out)
        assert number(found) >= number(kept) >= start
        if found is not None:
            require_sound(found)
        cut_short += any(not (path / SUMS).is_file() for path in out.glob("checkpoint-*"))
        if (out / "recipe.json").is_file():  # the last moment came too late
            break
    assert cut_short
    last = Run(kind, folder, out)
    last.process.join()
    assert last.process.exitcode == 0, last.told()
    assert logged(out) == logged(whole)
    [weights] = [path.name for path in whole.glob("*.safetensors")]
    first, second = load_file(whole / weights), load_file(out / weights)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
