"""What a plan says, beside what training takes on this CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.finetune_rows import WORDS, Sizes, write_llava
from scripts.plan import GIB, planned, read

ROOT = Path(__file__).parents[2]
SMALL = Sizes(width=512, layers=4, vocabulary=32_000, tower_width=256, tower_layers=4)
# Memory of the process when its libraries are there, and the most it ever had until the end.
TRAIN = """
import sys, torch, peft, tensorboard, transformers
from training import finetune, pretrain_projector

def told(name):
    [line] = [l for l in open("/proc/self/status") if l.startswith(name)]
    return int(line.split()[1]) * 1024

before = told("VmRSS")
{"finetune": finetune, "pretrain_projector": pretrain_projector}[sys.argv[1]].main(sys.argv[2:])
print("BYTES", told("VmHWM") - before)
"""


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """A LLaVA of 50 M parameters, and rows that fill max_length; a third of their text is
    learned, as the plan assumes."""
    folder = tmp_path_factory.mktemp("small")
    write_llava(folder, SMALL)
    random = np.random.default_rng(0)
    rows = []
    for number in range(8):
        said = lambda words: " ".join(random.choice(WORDS, words))  # noqa: E731
        turns = [
            {"from": who, "value": said(words)}
            for _ in range(40)
            for who, words in (("human", 13), ("gpt", 8))  # and the template's own words
        ]
        turns[0]["value"] = f"<image>\n{turns[0]['value']}"
        pixels = random.integers(0, 255, (336, 336, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        rows.append({"id": number, "image": f"{number}.png", "conversations": turns})
    (folder / "rows.json").write_text(json.dumps(rows))
    return folder


def measured(stage, recipe):
    # Freed memory goes back at once; else what malloc keeps would be counted.
    alone = {"OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        [sys.executable, "-c", TRAIN, stage, str(recipe)],
        capture_output=True, text=True, cwd=ROOT, env={**os.environ, **alone}, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return int(ran.stdout.split("BYTES")[1])


CASES = {
    "full": ("finetune", {}),
    "lora": ("finetune", {"lora": {"rank": 64, "alpha": 128}}),
    "projector": ("pretrain_projector", {}),
    "full, checkpointing": ("finetune", {"activation_checkpointing": True}),
    "full, accumulation": ("finetune", {"gradient_accumulation_steps": 2}),
}


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("case", CASES)
def test_the_peak_is_as_planned(case, parts, tmp_path):
    """MiB planned and measured, once: full 1,013 and 1,054; LoRA 861 and 875; projector 539 and
    555; full with checkpointing 810 and 881, with accumulation 1,191 and 1,228. The 15 to
    70 that are missing were not traced; what libraries take in the first step is among them."""
    stage, changes = CASES[case]
    made_of = {"model": str(parts / "mllm")}
    if stage == "pretrain_projector":
        made_of = {"vision_tower": str(parts / "tower"), "language_model": str(parts / "llm")}
    told = {
        **made_of,
        "conversations": [str(parts / "rows.json")],
        "output_dir": str(tmp_path / "out"),
        "max_length": 1024,
        "per_device_train_batch_size": 2,
        "max_steps": 3,
        "report_to": "none",
        "use_cpu": True,
        **changes,
    }
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps(told))
    [row, *_] = planned(read(recipe, []), 1, 80 * GIB)
    found = measured(stage, recipe)
    assert row.total == pytest.approx(found, rel=0.15)
