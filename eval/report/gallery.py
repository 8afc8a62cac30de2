"""Flipped answers with their pictures: a random draw, not a choice."""

from __future__ import annotations

import base64
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.comparison import Comparison, Flip
from eval.pictures import open_picture

EXAMPLES_EACH_WAY = 6
LONGEST_SIDE = 320  # pixels; larger pictures are made smaller for the page
LONGEST_TEXT = 400  # characters of an answer
DRAW_SEED = 7


@dataclass(frozen=True)
class Example:
    """One flipped unit as the page shows it; `pictures` are files beside the report."""

    gained: bool
    question: str
    label: str
    before: str
    before_reading: str
    after: str
    after_reading: str
    category: str
    seed: int
    pictures: tuple[Path, ...]

    def picture_data(self) -> list[str]:
        """The pictures as data: addresses, so that the page needs no other file."""
        return [png_data(path) for path in self.pictures]


def png_data(path: Path) -> str:
    """A png file as a data: address."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")


def draw_examples(comparison: Comparison, output: Path) -> list[Example]:
    """Draw examples that got better, then such that got worse; writes their pictures."""
    generator = random.Random(DRAW_SEED)
    examples: list[Example] = []
    for flips, gained in ((comparison.gained, True), (comparison.lost, False)):
        distinct = list({flip.before.cluster: flip for flip in flips}.values())
        drawn = generator.sample(distinct, min(EXAMPLES_EACH_WAY, len(distinct)))
        examples += [_example(comparison, flip, gained, output) for flip in drawn]
    return examples


def _example(comparison: Comparison, flip: Flip, gained: bool, output: Path) -> Example:
    return Example(
        gained=gained,
        question=flip.before.question,
        label=flip.after.label,
        before=_short(flip.before.answer),
        before_reading=flip.before.reading,
        after=_short(flip.after.answer),
        after_reading=flip.after.reading,
        category=flip.before.category,
        seed=flip.seed,
        pictures=_pictures(comparison, flip.before.images, output),
    )


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else text[:LONGEST_TEXT].rstrip() + " …"


def _pictures(comparison: Comparison, names: Sequence[str], output: Path) -> tuple[Path, ...]:
    """Copies of the pictures, or nothing where the benchmark's pictures are not on this machine
    (a result can be made from answers alone)."""
    written: list[Path] = []
    for name in names:
        if not (comparison.data_root / name.partition("#")[0]).is_file():
            continue
        plain = re.sub(r"\W+", "-", f"{comparison.benchmark.name}-{name}")
        path = output / "pictures" / f"{plain}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = open_picture(comparison.data_root, name)
        image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
        image.save(path)
        written.append(path)
    return tuple(written)
