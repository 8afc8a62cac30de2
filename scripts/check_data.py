"""Read all captions and edit pairs that a recipe of stage 1 or 2 names, before training.

    python scripts/check_data.py training/recipes/train_vision_tower.yaml
    python scripts/check_data.py <recipe> --fast        1,000 rows of each entry of a mixture

Says of each entry how many rows it has, which cannot be trained on and why, how large the pictures
are, how long the captions are in tokens and what share the tower would cut, and how many rows have
the pictures or the words of another. Writes report.json and lengths.png. Ends with status 1 if more
rows are broken than the recipe's quarantine_budget allows.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from matplotlib.figure import Figure
from rich.progress import track
from torch.utils.data import DataLoader, Subset

from training.sources import CaptionSource, EditSource, sources
from vision_tower.captions import Captions
from vision_tower.edits import Edits
from vision_tower.row_checks import CheckedCaptions, CheckedEdits, CheckedRow
from vision_tower.tokenizer import Tokenizer
from vision_tower.towers import load_tower

FAST, BUDGET, SHOWN = 1000, 0.001, 5


class Summary:
    """What was found in one entry. Numbers are in arrays, for there may be 30 million rows."""

    def __init__(self, name: str, rows: CheckedCaptions | CheckedEdits, window: int) -> None:
        self.name, self.captions, self.rows, self.window = name, rows.captions, len(rows), window
        self.checked, self.problems = 0, list[str]()
        self.sides, self._tokens = array("I"), array("I")
        self.words, self.pictures = array("Q"), array("Q")

    def add(self, row: CheckedRow) -> None:
        self.checked += 1
        if row.problem:
            self.problems.append(row.problem)
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
            "same_words": len(self.words) - len(np.unique(self.words)),
            "same_pictures": len(self.pictures) - len(np.unique(self.pictures)),
            "shorter_side": _quantiles(np.array(self.sides)),
            "tokens": {name: _quantiles(tokens) for name, tokens in lengths.items()},
            "cut": {name: int((tokens > self.window).sum()) for name, tokens in lengths.items()},
            "problems": self.problems,
        }


def _quantiles(values: np.ndarray) -> dict[str, int]:
    """Smallest, median, 95th percentile and largest; nothing of nothing."""
    if not len(values):
        return {}
    found = np.quantile(values, [0, 0.5, 0.95, 1], method="nearest").tolist()
    return dict(zip(("least", "median", "95 %", "most"), found, strict=True))


def check(
    rows: CheckedCaptions | CheckedEdits, name: str, window: int, fast: bool, workers: int
) -> Summary:
    """All rows, or with `fast` `FAST` of them, spread evenly."""
    summary = Summary(name, rows, window)
    chosen = range(len(rows))
    if fast:
        chosen = np.unique(np.linspace(0, len(rows) - 1, FAST).astype(int)).tolist()
    loader = DataLoader(Subset(rows, chosen), batch_size=32, num_workers=workers, collate_fn=list)
    for batch in track(loader, name[-40:], transient=True, disable=not sys.stdout.isatty()):
        for row in batch:
            summary.add(row)
    return summary


def opened(recipe: dict[str, Any], tokenizer: Tokenizer) -> Iterator[tuple[str, Any]]:
    """Each entry's name and its rows, or the error that opening them ended with."""
    for what in ("captions", "edits"):
        for entry in recipe.get(what) or []:
            text = json.dumps(entry) if isinstance(entry, dict) else str(entry)
            try:
                yield f"{what} {text}", _open(what, text, tokenizer)
            except (FileNotFoundError, ValueError) as error:
                yield f"{what} {text}", error


def _open(what: str, entry: str, tokenizer: Tokenizer) -> CheckedCaptions | CheckedEdits:
    if what == "captions":
        [one] = sources(CaptionSource, [entry])
        return CheckedCaptions(Captions(one.patterns, one.image_root, one.columns), tokenizer)
    [one] = sources(EditSource, [entry])
    return CheckedEdits(Edits(one.patterns, one.captions), tokenizer)


def lines(told: dict[str, Any], window: int) -> Iterator[str]:
    """What `Summary.told` holds, for people."""
    yield told["entry"]
    yield f"  {told['rows']:,} rows, {told['checked']:,} checked, {told['broken']:,} broken"
    yield (
        f"  {told['same_pictures']:,} have the pictures of another row, {told['same_words']:,} "
        "the words"
    )
    yield f"  pictures: shorter side {_span(told['shorter_side'])} pixels"
    for name, tokens in told["tokens"].items():
        cut = f"{told['cut'][name]:,} longer than the {window} that the tower reads"
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
        longest = max([one.window, *one.tokens.max(axis=1)]) if len(one.tokens) else one.window
        for name, lengths in zip(one.captions, one.tokens.T, strict=True):
            axes.hist(lengths, bins=np.linspace(0, longest + 1, 60), label=name, alpha=0.6)
        axes.axvline(one.window, color="#b4453c", label=f"the tower reads {one.window}")
        axes.set_title(one.name[-90:], loc="left", fontsize=9)
        axes.set(xlabel="tokens of a caption", ylabel="rows")
        axes.legend()
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", type=Path, help="of stage 1 or 2")
    parser.add_argument("--fast", action="store_true", help=f"{FAST} rows of each entry")
    parser.add_argument("--tower", help="whose tokenizer counts, in the recipe's place")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes")
    parser.add_argument("--output", type=Path, default=Path("out/check"), help="a folder")
    flags = parser.parse_args()
    try:
        recipe = yaml.safe_load(flags.recipe.read_text(encoding="utf-8"))
        tower = load_tower(flags.tower or recipe["tower"], weights=False)
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        parser.error(f"{flags.recipe}: {error}")
    window = recipe.get("context_length", tower.context_length)
    summaries, failed = [], False
    for name, rows in opened(recipe, tower.tokenizer):
        if isinstance(rows, Exception):
            failed = True
            print(f"{name}: {rows}", file=sys.stderr)
            continue
        summaries.append(check(rows, name, window, flags.fast, flags.workers))
    if not summaries:
        parser.error(f"{flags.recipe}: no captions and no edits in it could be opened.")
    found = [one.told() for one in summaries]
    flags.output.mkdir(parents=True, exist_ok=True)
    (flags.output / "report.json").write_text(json.dumps(found, indent=2), encoding="utf-8")
    draw_lengths(summaries, flags.output / "lengths.png")
    print("\n".join(line for one in found for line in lines(one, window)))
    print(
        f"All broken rows: {flags.output / 'report.json'}. Lengths: {flags.output / 'lengths.png'}"
    )
    budget = recipe.get("quarantine_budget", BUDGET)
    failed |= any(one["broken"] > budget * one["checked"] for one in found)
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
