"""Stages 3 and 4, in full and with adapters, on two processes: plain, under ZeRO-1, 2 and 3 and
with what these move to the CPU, against one plain process."""

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
STEPS = 50
DIRECTORIES = {"3": "model", "4": "model", "lora": "adapter_model"}

# Runs the stages in one process. DeepSpeed would compile its shared-memory communication first
# (minutes); without it, it uses gloo.
LAUNCH = """
import json, sys
if "--deepspeed" in sys.argv:
    import deepspeed
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
from training import finetune, pretrain_projector
common = sys.argv[2:]
stage3, stage4, adapters = json.loads(sys.argv[1])
pretrain_projector.main(stage3 + common)
finetune.main(stage4 + common)
finetune.main(adapters + common)
"""


def rows():
    """Rows of one global batch of 4: two with pictures for the first process, two without for the
    second; every third batch is text alone."""
    entries = []
    for number in range(40):
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
    """All stages; stage 4 starts at what stage 3 wrote. Returns the losses of each."""
    out = folder / name
    data = folder / "data"
    parts = ["--vision_tower", str(folder / "tower"), "--language_model", str(folder / "llm")]
    stages = [
        [*parts, "--output_dir", str(out / "3"), "--learning_rate", "1e-2", "--system="],
        ["--model", str(out / "3"), "--output_dir", str(out / "4"), "--learning_rate", "1e-3"],
        [
            "--model",
            str(out / "3"),
            "--output_dir",
            str(out / "lora"),
            "--learning_rate",
            "1e-2",
            "--lora",
            "{rank: 4, alpha: 8, dropout: 0}",
        ],
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
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [_losses(out / stage) for stage in DIRECTORIES], out


def _losses(directory):
    state = json.loads((directory / f"checkpoint-{STEPS}/trainer_state.json").read_text())
    return [entry["loss"] for entry in state["log_history"] if "loss" in entry]


@pytest.fixture(scope="module")
def plain(folder):
    losses, out = train(folder, "plain", [sys.executable], 4)
    assert [len(stage) for stage in losses] == [STEPS] * 3
    for stage in losses[1:]:
        assert stage[-1] < stage[0] - 0.2, "the language model did not learn: a weak test"
    return losses, out


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("zero", ["", "1", "2", "3", "2_offload", "3_offload"])
def test_two_processes_give_the_losses_of_one(plain, folder, zero):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    flags = ["--deepspeed", write_config(zero, folder)] if zero else []
    losses, out = train(folder, f"zero{zero}", [*launcher, "--nproc_per_node", "2"], 2, *flags)
    for ours, expected in zip(losses, plain[0], strict=True):
        assert ours == pytest.approx(expected, rel=1e-4)
    for directory, file in DIRECTORIES.items():
        ours = safe_open(out / directory / f"{file}.safetensors", "pt")
        expected = safe_open(plain[1] / directory / f"{file}.safetensors", "pt")
        assert set(ours.keys()) == set(expected.keys())
        for tensor in expected.keys():  # noqa: SIM118, a safe_open is no dict
            difference = (ours.get_tensor(tensor) - expected.get_tensor(tensor)).abs().max()
            assert difference < 1e-3, tensor
