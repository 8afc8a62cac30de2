"""MMVP-VLM: can the tower tell two pictures of a pair apart? (Tong et al. 2024, evaluate_vlm.py)

For each of a pair's two statements, which of its two PICTURES fits better (softmax over pictures);
the pair counts only when both are right. Chance is 25 %.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from torch import Tensor

from eval.benchmark import Counts, EmbeddingTower, Kind, Unit, ratio
from eval.pictures import check_images, image_folder, open_picture
from eval.tower.embedding import embed_images, embed_texts

HEADER = ["Question ID", "Type", "Statement"]
FOLDERS = ("MLLM_VLM Images", "MMVP_VLM_Images")  # the script's name, and the README's
# In the released file the pattern is the pair's position: 15 pairs each, in this order.
PATTERNS = (
    "Orientation and Direction",
    "Presence of Specific Features",
    "State and Condition",
    "Quantity and Count",
    "Positional and Relational Context",
    "Color and Appearance",
    "Structural Characteristics",
    "Texts",
    "Viewpoint and Perspective",
)
PAIRS_PER_PATTERN = 15

KINDS = {
    "mean_of_patterns": Kind("pair accuracy, mean of the patterns"),
    "pair_accuracy": Kind("pair accuracy"),
    "statement_accuracy": Kind("statement accuracy"),
}


@dataclass(frozen=True)
class Statement:
    """One row of Questions.csv and its picture, relative to the benchmark's folder."""

    id: int
    pattern: str
    text: str
    image: str


Pair = tuple[Statement, Statement]


@dataclass(frozen=True)
class MmvpVlm:
    """MMVP-VLM by the official rule. Headline: mean of the patterns' pair accuracies."""

    name: str = "mmvp_vlm"
    title: str = "MMVP-VLM"
    folder: str = "mmvp_vlm"
    parser: str = "mmvp-vlm-official-1"
    headlines: tuple[str, ...] = ("mean_of_patterns",)

    @property
    def kinds(self) -> Mapping[str, Kind]:
        return KINDS

    def files(self, root: Path) -> list[Path]:
        path = root / "Questions.csv"
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file; --data-root must hold MMVP-VLM's csv.")
        return [path]

    def measure(self, tower: EmbeddingTower, root: Path) -> list[Unit]:
        """One unit per pair."""
        pairs = read_pairs(self.files(root)[0], image_folder(root, FOLDERS))
        statements = [statement for pair in pairs for statement in pair]
        check_images(root, [statement.image for statement in statements])
        image_ND = embed_images(
            tower, [partial(open_picture, root, s.image) for s in statements], self.title
        )
        text_ND = embed_texts(tower, [f"a photo of {s.text}" for s in statements], self.title)
        chosen_P2 = first_image_chosen(image_ND, text_ND, tower.logit_scale.exp().item())
        return [_unit(pair, chosen) for pair, chosen in zip(pairs, chosen_P2.tolist(), strict=True)]

    def metrics(self, sums: Counts) -> dict[str, np.ndarray]:
        patterns = [name.removesuffix("/pairs") for name in sums if name.endswith("/pairs")]
        zero = np.zeros_like(sums["pairs"])
        by_pattern = {
            f"{pattern}/pair_accuracy": ratio(
                sums.get(f"{pattern}/right", zero), sums[f"{pattern}/pairs"]
            )
            for pattern in patterns
        }
        present = np.stack(list(by_pattern.values()))
        filled, known = np.nan_to_num(present), ~np.isnan(present)
        return {
            "mean_of_patterns": ratio(filled.sum(axis=0), known.sum(axis=0)),
            "pair_accuracy": ratio(sums["pair_right"], sums["pairs"]),
            "statement_accuracy": ratio(sums["statements_right"], 2 * sums["pairs"]),
        } | by_pattern


def first_image_chosen(image_ND: Tensor, text_ND: Tensor, scale: float) -> Tensor:
    """Per pair, whether each of its two texts chooses the pair's first picture: bool [N/2, 2].

    The official comparison: softmax over the two pictures, first iff its probability exceeds
    one half, so that a tie goes to the second. Features are of unit length.
    """
    image_P2D, text_P2D = image_ND.unflatten(0, (-1, 2)), text_ND.unflatten(0, (-1, 2))
    logit_Pti = scale * text_P2D @ image_P2D.transpose(1, 2)
    return logit_Pti.softmax(dim=-1)[..., 0] > 0.5


def read_pairs(path: Path, folder: str) -> list[Pair]:
    """Read Questions.csv. Both pictures lie in the folder of the FIRST row's type, as official.

    Raises:
        ValueError: another header, a row that does not parse, or an odd number of rows.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        header, *lines = list(csv.reader(file)) or [[]]
    lines = [line for line in lines if line]
    if header != HEADER:
        raise ValueError(f"{path}: header {header}; MMVP-VLM's is {','.join(HEADER)}.")
    if not lines or len(lines) % 2:
        raise ValueError(f"{path}: {len(lines)} rows do not make pairs; take the whole file.")
    for number, line in enumerate(lines, start=1):
        if len(line) != 3 or not line[0].strip().isdecimal():
            raise ValueError(
                f"{path}, row {number}: expected number, type, statement; found {line}."
            )
    official = len(lines) == 2 * PAIRS_PER_PATTERN * len(PATTERNS)
    return [
        _pair(folder, lines[2 * k], lines[2 * k + 1], k, official) for k in range(len(lines) // 2)
    ]


def _pair(folder: str, first: list[str], second: list[str], number: int, official: bool) -> Pair:
    pattern = PATTERNS[number // PAIRS_PER_PATTERN] if official else first[1]

    def statement(row: Sequence[str]) -> Statement:
        return Statement(int(row[0]), pattern, row[2], f"{folder}/{first[1]}/{int(row[0])}.jpg")

    return statement(first), statement(second)


def _unit(pair: Pair, chosen: Sequence[bool]) -> Unit:
    # An odd id belongs to the first picture, whatever the row's place in the pair.
    right = [says == (s.id % 2 == 1) for s, says in zip(pair, chosen, strict=True)]
    pattern = pair[0].pattern
    counts = {
        "pairs": 1,
        "pair_right": all(right),
        "statements_right": sum(right),
        f"{pattern}/pairs": 1,
        f"{pattern}/right": all(right),
    }
    identity = f"{pair[0].id}-{pair[1].id}"
    return Unit(
        id=identity,
        cluster=identity,
        counts={name: float(value) for name, value in counts.items()},
        right=all(right),
        category=pattern,
        question=" | ".join(statement.text for statement in pair),
        answer=" | ".join(f"{'first' if says else 'second'} picture" for says in chosen),
        reading="",
        label=" | ".join(f"{'first' if s.id % 2 else 'second'} picture" for s in pair),
        images=tuple(statement.image for statement in pair),
    )
