"""Flipped answers with their pictures: a random draw, not a choice."""

from __future__ import annotations

import base64
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.comparison import Comparison, Flip, Section
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
        return [data_address(path) for path in self.pictures]


def data_address(path: Path) -> str:
    """A png or webp file as a data: address."""
    kind = path.suffix.removeprefix(".")
    return f"data:image/{kind};base64," + base64.b64encode(path.read_bytes()).decode("ascii")


def draw_examples(section: Section, comparison: Comparison, output: Path) -> list[Example]:
    """Draw examples that got better, then such that got worse; writes their pictures."""
    generator = random.Random(DRAW_SEED)
    examples: list[Example] = []
    for flips, gained in ((comparison.gained, True), (comparison.lost, False)):
        distinct = list({flip.before.cluster: flip for flip in flips}.values())
        drawn = generator.sample(distinct, min(EXAMPLES_EACH_WAY, len(distinct)))
        examples += [_example(section, flip, gained, output) for flip in drawn]
    return examples


def _example(section: Section, flip: Flip, gained: bool, output: Path) -> Example:
    return Example(
        gained=gained,
        question=_short(flip.before.question),
        label=_short(flip.after.label),
        before=_short(flip.before.answer),
        before_reading=flip.before.reading,
        after=_short(flip.after.answer),
        after_reading=flip.after.reading,
        category=flip.before.category,
        seed=flip.seed,
        pictures=_pictures(section, flip.before.images, output),
    )


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else text[:LONGEST_TEXT].rstrip() + " …"


def _pictures(section: Section, names: Sequence[str], output: Path) -> tuple[Path, ...]:
    """Copies of the pictures, or nothing where the benchmark's pictures are not on this machine
    (a result can be made from answers alone)."""
    written: list[Path] = []
    for name in names:
        if not (section.data_root / name.partition("#")[0]).is_file():
            continue
        plain = re.sub(r"\W+", "-", f"{section.benchmark.name}-{name}")
        path = output / "pictures" / f"{plain}.webp"  # a tenth of a photograph's png
        path.parent.mkdir(parents=True, exist_ok=True)
        image = open_picture(section.data_root, name)
        image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
        image.save(path, quality=85)
        written.append(path)
    return tuple(written)
