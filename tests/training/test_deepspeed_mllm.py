"""Stages 3 and 4 on two processes under ZeRO-1, 2 and 3 against one plain process, on the CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import safe_open

from tests.tiny_llava import row, write_language_model, write_rows, write_tower
from tests.zero import write_config

ROOT = Path(__file__).resolve().parents[2]
STEPS = 10

# Runs both stages in one process. DeepSpeed would compile its shared-memory communication first
# (minutes); without it, it uses gloo.
LAUNCH = """
import json, sys
if "--deepspeed" in sys.argv:
    import deepspeed
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
from training import finetune, pretrain_projector
common = sys.argv[2:]
stage3, stage4 = json.loads(sys.argv[1])
pretrain_projector.main(stage3 + common)
finetune.main(stage4 + common)
"""


def rows():
    """Rows of one global batch of 4: two with pictures for the first process, two without for the
    second; every third batch is text alone."""
    entries = []
    for number in range(4 * STEPS):
        image = None if number % 4 > 1 or number % 12 > 7 else f"{number}.png"
        answer = "one red circle" if number % 3 else "two"
        entries.append(row(f"r{number}", image, "what is in the picture", answer))
    return entries


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("zero")
    write_tower(root / "tower")
    write_language_model(root / "llm")
    write_rows(root / "data", rows())
    (root / "launch.py").write_text(LAUNCH)
    return root


def train(folder, name, launcher, batch_size, *flags):
    """Both stages; stage 4 starts at what stage 3 wrote. Returns the losses of both."""
    out = folder / name
    data = folder / "data"
    parts = ["--vision_tower", str(folder / "tower"), "--language_model", str(folder / "llm")]
    stages = [
        [*parts, "--output_dir", str(out / "3"), "--learning_rate", "1e-2", "--system="],
        ["--model", str(out / "3"), "--output_dir", str(out / "4"), "--learning_rate", "1e-3"],
    ]
    common = [
        "--conversations", str(data / "rows.json"), "--image_root", str(data),
        "--max_steps", str(STEPS), "--logging_steps", "1", "--save_steps", str(STEPS),
        "--per_device_train_batch_size", str(batch_size), "--warmup_steps", "2",
        "--train_sampling_strategy", "sequential", "--report_to", "none",
        "--disable_tqdm", "True", *flags,
    ]  # fmt: skip
    done = subprocess.run(
        [*launcher, folder / "launch.py", json.dumps(stages), *common],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [_losses(out / stage) for stage in "34"], out


def _losses(directory):
    state = json.loads((directory / f"checkpoint-{STEPS}/trainer_state.json").read_text())
    return [entry["loss"] for entry in state["log_history"] if "loss" in entry]


@pytest.fixture(scope="module")
def plain(folder):
    losses, out = train(folder, "plain", [sys.executable], 4)
    assert [len(stage) for stage in losses] == [STEPS, STEPS]
    assert losses[1][-1] < losses[1][0] - 0.2, "the language model did not learn: a weak test"
    return losses, out


@pytest.mark.slow
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_two_processes_give_the_losses_of_one(plain, folder, stage):
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
    ]
    config = write_config(stage, folder)
    losses, out = train(folder, f"zero{stage}", launcher, 2, "--deepspeed", config)
    for ours, expected in zip(losses, plain[0], strict=True):
        assert ours == pytest.approx(expected, rel=1e-4)
    for number in "34":
        ours = safe_open(out / number / "model.safetensors", "pt")
        expected = safe_open(plain[1] / number / "model.safetensors", "pt")
        assert set(ours.keys()) == set(expected.keys())
        for name in expected.keys():  # noqa: SIM118, a safe_open is no dict
            difference = (ours.get_tensor(name) - expected.get_tensor(name)).abs().max()
            assert difference < 1e-4, name
