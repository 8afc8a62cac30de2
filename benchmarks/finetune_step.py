"""Stage 3's or 4's speed and memory beside TRL's SFTTrainer, in one run on one machine.

pip install trl
python benchmarks/finetune_step.py
python benchmarks/finetune_step.py --stage pretrain_projector --tokens_a_row 640
python benchmarks/finetune_step.py --size 7b --bf16 --batch_size 16 --rows 512

Every turn is an epoch over all rows, in a process of its own; the contenders take turns. Writes
json with machine, commit and versions, and prints a table: learned tokens a second, the share of
tokens that are padding, and the peak of memory above what is there before training. Ratios are to
TRL's best.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.finetune_rows import SIZES, write_llava
from benchmarks.finetune_turns import CONTENDERS, MAX_LENGTH, STAGES, common, turn
from benchmarks.tower_step import machine, write
from training.provenance import provenance

SPEED, PADDING, PEAK = "supervised_tokens_per_second", "padding_share", "peak_mib"


def main(argv: Sequence[str] | None = None) -> None:
    args = parser().parse_args(argv)
    settings = common(args.batch_size, args.bf16)
    if args.turn:
        tokens = max(MAX_LENGTH, args.batch_size * args.tokens_a_row)
        told = turn(args.turn, args.stage, args.folder, settings, tokens)
        print(json.dumps(told))
        return
    output = args.output or Path(f"benchmarks/results/{args.stage}_step.json")
    result = {
        "command": shlex.join(["python", *sys.argv]),
        "settings": {**vars(args), "output": str(output), "folder": None},
        "machine": machine("cpu" if settings["use_cpu"] else "cuda"),
        **provenance(),
        "trl": version("trl"),
    }
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_llava(folder, SIZES[args.size])
        STAGES[args.stage].write_rows(folder / "rows", args.rows)
        turns: dict[str, list[dict[str, float]]] = {name: [] for name in CONTENDERS}
        for _ in range(args.repeats):
            for name, seen in turns.items():
                seen.append(in_a_process(name, folder, argv))
                result["turns"] = turns
                write(result, output)
    Console().print(table(turns))


def in_a_process(contender: str, folder: Path, argv: Sequence[str] | None) -> dict[str, float]:
    flags = [*(sys.argv[1:] if argv is None else argv), "--turn", contender]
    command = [sys.executable, __file__, *flags, "--folder", str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def table(turns: dict[str, list[dict[str, float]]]) -> Table:
    """Medians, and the range of the turns in brackets."""
    best = max(("trl", "trl, grouped"), key=lambda name: _median(turns[name], SPEED))
    told = Table("how", "learned tokens/s", "speed-up", "padding", "peak MiB", "of TRL's")
    for name, seen in turns.items():
        speed = [one[SPEED] for one in seen]
        told.add_row(
            name,
            f"{_median(seen, SPEED):,.0f} ({min(speed):,.0f} to {max(speed):,.0f})",
            f"{_median(seen, SPEED) / _median(turns[best], SPEED):.2f}",
            f"{100 * _median(seen, PADDING):.1f} %",
            f"{_median(seen, PEAK):,.0f}",
            f"{_median(seen, PEAK) / _median(turns[best], PEAK):.2f}",
        )
    return told


def _median(turns: list[dict[str, float]], name: str) -> float:
    return statistics.median(one[name] for one in turns)


def parser() -> argparse.ArgumentParser:
    told = argparse.ArgumentParser(description="Speed and memory of stage 3 or 4 beside TRL's.")
    told.add_argument("--stage", choices=STAGES, default="finetune", help="Whose parts learn.")
    told.add_argument("--size", choices=SIZES, default="small", help="Of the LLaVA.")
    told.add_argument("--rows", type=int, default=64, help="Conversations of an epoch.")
    told.add_argument("--batch_size", type=int, default=8, help="Rows of a step.")
    told.add_argument("--tokens_a_row", type=int, default=480, help="For batch_tokens.")
    told.add_argument("--bf16", action="store_true", help="Autocast; fp32 otherwise.")
    told.add_argument("--repeats", type=int, default=5, help="Turns of each contender.")
    told.add_argument("--turn", help=argparse.SUPPRESS)
    told.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    told.add_argument("--output", type=Path, help="Else benchmarks/results/<stage>_step.json.")
    return told


if __name__ == "__main__":
    main()
