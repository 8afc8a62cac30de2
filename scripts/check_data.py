"""Read all captions, edit pairs or conversations that a recipe names, before training.

    python scripts/check_data.py training/recipes/train_vision_tower.yaml
    python scripts/check_data.py <recipe> --fast        1,000 rows of each entry of a mixture
    python scripts/check_data.py <recipe> --tower ViT-L-14-336-quickgelu:openai

Says of each entry how many rows it has, which cannot be
trained on and why, how large the pictures are (those of stage 1 are not read), how long the
captions are in tokens, how many of them are cut, and how many rows have the pictures or the words
of another. Of conversations (stages 3 and 4): how long the rows are, what share of the tokens is
learned, how many pictures they have; --show 5 prints some as the model reads them, in green what it
learns. Writes report.json and lengths.png. Ends with status 1 if training would stop: at once
for a caption without text or picture, later for more broken rows than quarantine_budget allows.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from array import array
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from matplotlib.figure import Figure
from rich.progress import track
from torch.utils.data import DataLoader, Subset

from scripts.conversation_check import check_conversations, quantiles
from training.adapt_text_encoder import AdaptTextEncoder
from training.finetune import Finetune
from training.pretrain_projector import PretrainProjector
from training.recipe import read_recipe
from training.sources import CaptionSource, EditSource, sources
from training.train_vision_tower import TrainVisionTower
from vision_tower.captions import Captions
from vision_tower.edits import Edits
from vision_tower.row_checks import CheckedCaptions, CheckedEdits, CheckedRow
from vision_tower.tokenizer import Tokenizer
from vision_tower.towers import load_tower

FAST, SHOWN = 1000, 5
Checked = CheckedCaptions | CheckedEdits
Recipe = AdaptTextEncoder | TrainVisionTower | PretrainProjector | Finetune


class Summary:
    """What was found in one entry. Numbers are in arrays, for there may be 30 million rows."""

    def __init__(self, name: str, rows: Checked, window: int) -> None:
        self.name, self.captions, self.rows, self.window = name, rows.captions, len(rows), window
        self.checked, self.stops, self.problems = 0, 0, list[str]()
        self.sides, self._tokens = array("I"), array("I")
        self.words, self.pictures = array("Q"), array("Q")

    def add(self, row: CheckedRow) -> None:
        self.checked += 1
        if row.problem:
            self.problems.append(row.problem)
            self.stops += row.stops
            return
        self._tokens.extend(row.tokens)
        self.sides.extend(min(size) for size in row.sizes)
        self.words.append(row.words)
        self.pictures.append(row.pictures)

    @property
    def tokens(self) -> np.ndarray:
        """[sound rows, 2], of the two captions of a row."""
        return np.array(self._tokens).reshape(-1, 2)

    def told(self) -> dict[str, Any]:
        """As json values; lengths in tokens, pictures by their shorter sides in pixels."""
        lengths = dict(zip(self.captions, self.tokens.T, strict=True))
        return {
            "entry": self.name,
            "rows": self.rows,
            "checked": self.checked,
            "broken": len(self.problems),
            "stop_at_once": self.stops,
            "same_words": len(self.words) - len(np.unique(self.words)),
            "same_pictures": len(self.pictures) - len(np.unique(self.pictures)),
            "shorter_side": quantiles(np.array(self.sides)),
            "tokens": {name: quantiles(tokens) for name, tokens in lengths.items()},
            "cut": {name: int((tokens > self.window).sum()) for name, tokens in lengths.items()},
            "problems": self.problems,
        }


def check(rows: Checked, name: str, window: int, flags: argparse.Namespace) -> Summary:
    """All rows, or `FAST` of them, spread evenly."""
    summary = Summary(name, rows, window)
    chosen = range(len(rows))
    if flags.fast:
        chosen = np.unique(np.linspace(0, len(rows) - 1, FAST).astype(int)).tolist()
    some = Subset(rows, chosen)
    loader = DataLoader(some, batch_size=32, num_workers=flags.workers, collate_fn=list)
    for batch in track(loader, name[-40:], transient=True, disable=not sys.stdout.isatty()):
        for row in batch:
            summary.add(row)
    return summary


def read_stage(path: Path, flags: list[str]) -> Recipe:
    """The recipe, read by the stage that knows its settings. Raises ValueError if none does."""
    recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    for stage in (AdaptTextEncoder, TrainVisionTower, PretrainProjector, Finetune):
        if isinstance(recipe, dict) and recipe.keys() <= {one.name for one in fields(stage)}:
            return read_recipe(stage, [str(path), *flags])
    raise ValueError(f"{path} is no recipe: no stage has all of its settings.")


def opened(
    args: AdaptTextEncoder | TrainVisionTower, tokenizer: Tokenizer
) -> Iterator[tuple[str, Checked | Exception]]:
    """Each set's name and its rows, or the error that opening it ended with."""
    of_stage_2 = isinstance(args, TrainVisionTower)
    edits = sources(EditSource, args.edits) if of_stage_2 else []
    for one in [*sources(CaptionSource, args.captions), *edits]:
        name = " ".join(one.patterns)
        try:
            if isinstance(one, EditSource):
                yield f"edits {name}", CheckedEdits(Edits(one.patterns, one.captions), tokenizer)
            else:
                captions = Captions(one.patterns, one.image_root, one.columns)
                yield f"captions {name}", CheckedCaptions(captions, tokenizer, of_stage_2)
        except (FileNotFoundError, ValueError) as error:
            yield name, error


def lines(told: dict[str, Any], window: int) -> Iterator[str]:
    """What `Summary.told` holds, for people."""
    yield told["entry"]
    yield (
        f"  {told['rows']:,} rows, {told['checked']:,} checked, {told['broken']:,} broken, "
        f"{told['stop_at_once']:,} of which stop training at once"
    )
    yield (
        f"  {told['same_pictures']:,} have the pictures of another row, {told['same_words']:,} "
        "the words"
    )
    if told["shorter_side"]:
        yield f"  pictures: shorter side {_span(told['shorter_side'])} pixels"
    for name, tokens in told["tokens"].items():
        cut = f"{told['cut'][name]:,} longer than the {window} that are read"
        yield f"  {name} captions: {_span(tokens)} tokens; {cut}"
    yield from (f"  broken: {problem}" for problem in told["problems"][:SHOWN])


def _span(quantiles: dict[str, int]) -> str:
    text = "{least} to {most} (median {median}, 95 % up to {95 %})"
    return text.format(**quantiles) if quantiles else "no"


def draw_lengths(summaries: list[Summary], path: Path) -> None:
    """A histogram of the captions' lengths an entry, with the tower's window."""
    figure = Figure(figsize=(8, 2.6 * len(summaries)), layout="constrained", dpi=120)
    panels = figure.subplots(len(summaries), 1, squeeze=False)[:, 0]
    for axes, one in zip(panels, summaries, strict=True):
        longest = max(one.window, one.tokens.max(initial=0))
        for name, lengths in zip(one.captions, one.tokens.T, strict=True):
            axes.hist(lengths, bins=np.linspace(0, longest + 1, 60), label=name, alpha=0.6)
        axes.axvline(one.window, color="#b4453c", label=f"{one.window} are read")
        axes.set_title(one.name[-90:], loc="left", fontsize=9)
        axes.set(xlabel="tokens of a caption", ylabel="rows")
        axes.legend()
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", type=Path, help="of any stage")
    parser.add_argument("--fast", action="store_true", help=f"{FAST} rows of each entry")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes")
    parser.add_argument("--output", type=Path, default=Path("out/check"), help="a folder")
    parser.add_argument("--tower", help="in the place of the recipe's, of stages 1 and 2")
    parser.add_argument("--show", type=int, default=0, help="conversations to print")
    flags = parser.parse_args()
    try:
        args = read_stage(flags.recipe, ["--tower", flags.tower] if flags.tower else [])
        if isinstance(args, (PretrainProjector, Finetune)):
            sys.exit(check_conversations(args, flags, FAST))
        # Stage 1 too cuts captions at the window of the tower it begins with.
        tower = load_tower(args.tower, weights=False)
        sets = list(opened(args, tower.tokenizer))
    except (OSError, ValueError, yaml.YAMLError) as error:
        parser.error(str(error))
    for name, error in sets:
        if isinstance(error, Exception):
            print(f"{name}: {error}", file=sys.stderr)
    found = [
        check(rows, name, tower.context_length, flags)
        for name, rows in sets
        if not isinstance(rows, Exception)
    ]
    if found:
        report(found, flags.output)
    budget = args.quarantine_budget if isinstance(args, TrainVisionTower) else 0.0
    sys.exit(int(len(found) < len(sets) or would_stop(found, budget)))


def report(found: list[Summary], output: Path) -> None:
    """On the terminal, and as report.json and lengths.png."""
    told = [one.told() for one in found]
    output.mkdir(parents=True, exist_ok=True)
    (output / "report.json").write_text(json.dumps(told, indent=2), encoding="utf-8")
    draw_lengths(found, output / "lengths.png")
    print("\n".join(line for one in told for line in lines(one, found[0].window)))
    print(f"In {output}: report.json, with all broken rows, and lengths.png.")


def would_stop(found: list[Summary], budget: float) -> bool:
    """The budget is of all captions and of all edits of a recipe."""
    for kind in (CheckedCaptions.captions, CheckedEdits.captions):
        alike = [one for one in found if one.captions == kind]
        broken = sum(len(one.problems) for one in alike)
        if any(one.stops for one in alike) or broken > budget * sum(o.checked for o in alike):
            return True
    return False


if __name__ == "__main__":
    main()
