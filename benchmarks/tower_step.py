"""Stage 2's speed and memory beside open_clip_train's, in one run on one machine.

python benchmarks/tower_step.py
python benchmarks/tower_step.py --architecture ViT-L-14-336 --batch_size 128 --bf16

Writes json, part by part, with machine, commit and versions, and prints a table. Its parts:

short          short captions only, the one objective open_clip_train has too. It pads them to 77
               tokens; stage 2 is timed on the same tokens, and trimmed as its collator makes them.
long           short and long captions through a rotary text encoder of 248 tokens: texts padded,
               as a tokenizer of that window makes them, trimmed to the longest of a batch, and to
               that of each group of like length.
texts          the text encoder's part in that step; long_texts: that of the long captions alone.
micro_batches  one batch, and the same rows in micro-batches (GradCache).
loss_memory    MiB of the loss alone, by rows of the batch.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import open_clip
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.loss_memory import LOSSES, memory_by_batch
from benchmarks.speed import Section, Setting, Spread, long_step, micro_batches, short_step, texts
from benchmarks.steps import Machine
from training.provenance import provenance


def main(argv: Sequence[str] | None = None) -> None:
    args = parser().parse_args(argv)
    result = {
        "command": shlex.join(["python", *sys.argv]),
        "settings": {**vars(args), "output": str(args.output)},
        "machine": machine(args.device),
        **provenance(),
    }
    with tempfile.TemporaryDirectory() as scratch:
        setting = Setting(
            args.architecture,
            random_weights(args.architecture, Path(scratch) / "random.pt"),
            args.batch_size,
            args.steps,
            args.repeats,
            args.micro_batches,
            Machine(args.device, args.bf16),
        )
        width = setting.tower().config["model_cfg"]["embed_dim"]
        short, result["first_losses"] = short_step(setting)
        result["short"] = short
        write(result, args.output)  # after each part: all of them may take an hour
        for name, measured in PARTS.items():
            result[name] = measured(setting)
            write(result, args.output)
    result["loss_memory"] = {
        name: memory_by_batch(name, args.loss_batches, width, args.device) for name in LOSSES
    }
    write(result, args.output)
    Console().print(table(result))


def write(result: dict[str, Any], file: Path) -> None:
    """What is measured so far, and its last part's name on the terminal."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"measured: {list(result)[-1]}", flush=True)


PARTS: dict[str, Callable[[Setting], Section]] = {
    "long": long_step,
    "texts": partial(texts, names=("short_tokens", "long_tokens")),
    "long_texts": partial(texts, names=("long_tokens",)),
    "micro_batches": micro_batches,
}


def parser() -> argparse.ArgumentParser:
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    device = "cpu" if accelerator is None else accelerator.type
    told = argparse.ArgumentParser(description="Speed and memory of stage 2 beside open_clip's.")
    told.add_argument("--architecture", default="ViT-B-32", help="A CLIP of open_clip.")
    told.add_argument("--batch_size", type=int, default=16, help="Rows of a step.")
    told.add_argument("--bf16", action="store_true", help="Autocast; fp32 otherwise.")
    told.add_argument("--steps", type=int, default=2, help="Steps of a turn that are timed.")
    told.add_argument("--repeats", type=int, default=7, help="Turns of each contender.")
    told.add_argument("--micro_batches", type=int, default=4, help="For GradCache.")
    told.add_argument("--loss_batches", type=int, nargs="+", default=[8192, 16384, 32768])
    told.add_argument("--device", default=device, help="cpu, or the accelerator's type.")
    told.add_argument("--output", type=Path, default=Path("benchmarks/results/tower_step.json"))
    return told


def random_weights(architecture: str, file: Path) -> Path:
    torch.manual_seed(0)
    torch.save(open_clip.create_model(architecture).state_dict(), file)
    return file


def machine(device: str) -> dict[str, object]:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = {line.split(": ")[1] for line in lines if line.startswith("model name")}
    return {
        "processor": ", ".join(sorted(names)),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
    }


def table(result: dict) -> Table:
    """Medians, and the range of the repeats in brackets."""
    told = Table("part", "how", "samples/s", "speed-up", title=result["settings"]["architecture"])
    for part in ("short", *PARTS):
        for name, row in result[part].items():
            told.add_row(part, name, shown(row["samples_per_second"]), shown(row["speedup"]))
        told.add_section()
    for name, by_rows in result["loss_memory"].items():
        for rows, mib in by_rows.items():
            size = "more than there is" if mib is None else f"{mib:,.0f} MiB"
            told.add_row("loss_memory", f"{name}, {rows:,} rows", size, "")
    return told


def shown(figures: Spread) -> str:
    return f"{figures['median']:.2f} ({figures['min']:.2f} to {figures['max']:.2f})"


if __name__ == "__main__":
    main()
