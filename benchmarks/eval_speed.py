"""Questions a second of eval/'s runner beside lmms-eval's llava_hf, in one run on one machine.

LMMS_PYTHON=<a Python that has lmms-eval> python benchmarks/eval_speed.py
python benchmarks/eval_speed.py --size 7b --bf16 --pictures 100 --batch_size 126

Both ask the same stock LLaVA of random weights the same POPE questions, six a picture, and their
answers are compared row by row. Such a model babbles up to the limit, where a trained one says
"Yes" and ends, which are two tokens: so many are asked for by default. Every turn is a process of
its own; the contenders take turns, and the clock runs from the first question to the last answer.
Writes json with machine, commit and versions, and prints a table.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.eval_turns import CONTENDERS, OBJECTS, SUFFIX, Turn, write_pope

PEER = "lmms-eval"
GAIN = 4  # on the weights of a fresh model, so that what it says depends on what it is shown
ROOT = Path(__file__).parents[1]


def main(argv: Sequence[str] | None = None) -> None:
    args = parser().parse_args(argv)
    if args.turn:
        told = CONTENDERS[args.turn](
            args.folder / "mllm", args.folder / "pope", args.max_new_tokens, args.batch_size
        )
        print(json.dumps(told))
        return
    # lmms-eval's Python runs a turn of this file, and need not have what only this half needs.
    from benchmarks.tower_step import machine, write
    from training.provenance import provenance

    told = {name: value for name, value in vars(args).items() if name not in ("turn", "folder")}
    result = {
        "command": shlex.join(["python", *sys.argv]),
        "settings": told | {"output": str(args.output)},
        "machine": machine(args.device),
        **provenance(),
    }
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_model(folder, args)
        write_pope(folder / "pope", args.pictures)
        turns: dict[str, list[Turn]] = {name: [] for name in CONTENDERS}
        for _ in range(args.repeats):
            for name, seen in turns.items():
                seen.append(in_a_process(name, folder, args))
        result["turns"] = {name: summary(turns, name) for name in turns}
        write(result, args.output)
    Console().print(table(result))


def write_model(folder: Path, args: argparse.Namespace) -> None:
    import torch
    from transformers import LlavaForConditionalGeneration

    from benchmarks.finetune_rows import SIZES, VOCABULARY, write_llava
    from mllm.template import VICUNA_SYSTEM

    words = " ".join([VICUNA_SYSTEM, "USER: Is there a ASSISTANT:", *OBJECTS, "in the image?"])
    # No more tokens than the tokenizer knows: others would read as nothing.
    sizes = SIZES[args.size]._replace(vocabulary=VOCABULARY)
    directory = write_llava(folder, sizes, args.side, words + SUFFIX)
    model = LlavaForConditionalGeneration.from_pretrained(directory)
    with torch.no_grad():
        for parameter in model.parameters():  # else all questions have one answer
            parameter.mul_(GAIN if parameter.dim() > 1 else 1)
    (model.bfloat16() if args.bf16 else model).save_pretrained(directory)


def in_a_process(contender: str, folder: Path, args: argparse.Namespace) -> Turn:
    python = os.environ.get("LMMS_PYTHON", sys.executable) if contender == PEER else sys.executable
    command = [
        *(python, __file__, "--turn", contender, "--folder", str(folder)),
        *("--max_new_tokens", str(args.max_new_tokens), "--batch_size", str(args.batch_size)),
    ]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    return json.loads(done.stdout.strip().splitlines()[-1])


def summary(turns: dict[str, list[Turn]], name: str) -> dict[str, object]:
    """Speed of each turn, its ratio to the peer's turn beside it, and how answers compare."""
    asked = len(turns[PEER][0]["answers"])
    speeds = [asked / turn["seconds"] for turn in turns[name]]
    ratios = [
        peer["seconds"] / own["seconds"] for peer, own in zip(turns[PEER], turns[name], strict=True)
    ]
    told = turns[PEER][0]["answers"]
    equal = [sum(turn["answers"][n] == told[n] for n in told) for turn in turns[name]]
    first = turns[name][0]
    return {
        "questions_per_second": spread(speeds),
        "speedup": spread(ratios),
        "answers_equal": f"{min(equal)} of {asked}",
        "distinct_answers": len(set(first["answers"].values())),
        "versions": first["versions"],
    }


def spread(figures: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(figures), "min": min(figures), "max": max(figures)}


def table(result: dict) -> Table:
    """Medians, and the range of the turns in brackets."""
    told = Table("how", "questions/s", "speed-up", "answers equal", title="POPE, six a picture")
    for name, row in result["turns"].items():
        shown = [
            f"{row[key]['median']:.2f} ({row[key]['min']:.2f} to {row[key]['max']:.2f})"
            for key in ("questions_per_second", "speedup")
        ]
        told.add_row(name, *shown, row["answers_equal"])
    return told


def parser() -> argparse.ArgumentParser:
    told = argparse.ArgumentParser(description="Questions a second beside lmms-eval's.")
    told.add_argument("--size", default="small", help="Of the LLaVA; see finetune_rows.SIZES.")
    told.add_argument("--side", type=int, default=336, help="Of its pictures: 576 tokens at 336.")
    told.add_argument("--pictures", type=int, default=6, help="Six questions about each.")
    told.add_argument("--max_new_tokens", type=int, default=2, help="Of an answer.")
    told.add_argument("--batch_size", type=int, default=18, help="Of eval/; lmms-eval's is 1.")
    told.add_argument("--bf16", action="store_true", help="The model's weights; fp32 otherwise.")
    told.add_argument("--device", default="cpu", help="What machine it is: cpu or cuda.")
    told.add_argument("--repeats", type=int, default=5, help="Turns of each contender.")
    told.add_argument("--turn", help=argparse.SUPPRESS)
    told.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    told.add_argument("--output", type=Path, default=Path("benchmarks/results/eval_speed.json"))
    return told


if __name__ == "__main__":
    main()
