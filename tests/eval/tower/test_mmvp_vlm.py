"""MMVP-VLM: the official comparison against a loop of one's own, ties, patterns, the csv."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from eval.result import point_metrics
from eval.tower.mmvp_vlm import PATTERNS, MmvpVlm, first_image_chosen, read_pairs

BENCHMARK = MmvpVlm()
HEADER = ["Question ID", "Type", "Statement"]
WriteCsv = Callable[[Path, Sequence[Sequence[str]]], None]


class ColourTower:
    """Sees a picture's mean colour; reads "red" and "blue". Knows nothing else."""

    def __init__(self) -> None:
        self.logit_scale = torch.tensor(math.log(100.0))
        self.texts: list[str] = []

    def preprocess(self, image: Image.Image) -> Tensor:
        red, _, blue = image.resize((1, 1)).getpixel((0, 0))
        return torch.tensor([float(red), float(blue), 1.0])

    def tokenizer(self, texts: list[str]) -> Tensor:
        self.texts += texts
        return torch.tensor([[int("red" in text), int("blue" in text)] for text in texts])

    def encode_image(self, pixel_values: Tensor, normalize: bool = False) -> Tensor:
        return torch.nn.functional.normalize(pixel_values, dim=-1)

    def encode_text(self, token: Tensor, normalize: bool = False) -> Tensor:
        padded = torch.nn.functional.pad(token.float(), (0, 1), value=0.01)
        return torch.nn.functional.normalize(padded, dim=-1)


@pytest.fixture
def root(tmp_path: Path, write_csv: WriteCsv) -> Path:
    """Three pairs of two types: red and blue as told, swapped statements, and a tie."""
    rows = [
        ["1", "colour", "a red thing"], ["2", "colour", "a blue thing"],
        ["3", "colour", "a blue thing"], ["4", "colour", "a red thing"],
        ["5", "shape", "a thing"], ["6", "shape", "a thing"],
    ]  # fmt: skip
    write_csv(tmp_path / "Questions.csv", [HEADER, *rows])
    for row in rows:
        colour = (250, 0, 0) if int(row[0]) % 2 else (0, 0, 250)
        path = tmp_path / "MLLM_VLM Images" / row[1] / f"{row[0]}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), colour).save(path)
    return tmp_path


def test_pairs_by_hand(root: Path) -> None:
    tower = ColourTower()
    units = BENCHMARK.measure(tower, root)
    assert tower.texts[0] == "a photo of a red thing"
    # Pair 3: neither text says a colour, so both pictures tie and the second is chosen.
    assert [unit.answer.replace(" picture", "") for unit in units] == [
        "first | second",
        "second | first",
        "second | second",
    ]
    assert [unit.right for unit in units] == [True, False, False]
    metrics = point_metrics(BENCHMARK, units)
    assert metrics["pair_accuracy"] == pytest.approx(1 / 3)
    assert metrics["mean_of_patterns"] == pytest.approx((1 / 2 + 0) / 2)
    assert metrics["statement_accuracy"] == pytest.approx(3 / 6)
    assert metrics["colour/pair_accuracy"] == 0.5
    assert metrics["shape/pair_accuracy"] == 0


def test_choice_is_softmax_over_pictures_of_one_text() -> None:
    torch.manual_seed(0)
    image = torch.nn.functional.normalize(torch.randn(40, 5), dim=-1)
    text = torch.nn.functional.normalize(torch.randn(40, 5), dim=-1)
    image[1] = image[0]  # a tie: the second picture is chosen
    chosen = first_image_chosen(image, text, 100.0)
    for pair in range(20):
        for which in range(2):
            logits = [100 * float(image[2 * pair + k] @ text[2 * pair + which]) for k in range(2)]
            probability = 1 / (1 + math.exp(logits[1] - logits[0]))
            assert bool(chosen[pair, which]) == (pair > 0 and probability > 0.5)


def test_official_size_takes_the_pattern_from_the_position(
    tmp_path: Path, write_csv: WriteCsv
) -> None:
    rows = [[str(n), "some type", f"statement {n}"] for n in range(1, 271)]
    write_csv(tmp_path / "Questions.csv", [HEADER, *rows])
    pairs = read_pairs(tmp_path / "Questions.csv", "MLLM_VLM Images")
    assert [first.pattern for first, _ in pairs] == [p for p in PATTERNS for _ in range(15)]
    assert pairs[0][1].image == "MLLM_VLM Images/some type/2.jpg"


def test_other_folder_name(root: Path) -> None:
    (root / "MLLM_VLM Images").rename(root / "MMVP_VLM_Images")
    assert len(BENCHMARK.measure(ColourTower(), root)) == 3


def test_missing_picture(root: Path) -> None:
    (root / "MLLM_VLM Images/shape/6.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"shape/6\.jpg: no such picture \(1 of"):
        BENCHMARK.measure(ColourTower(), root)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([["id", "type", "text"]], "header"),
        ([HEADER], "0 rows do not make pairs"),
        ([HEADER, ["1", "t", "s"]], "1 rows do not make pairs"),
        ([HEADER, ["1", "t", "s"], ["two", "t", "s"]], "row 2: expected number"),
        ([HEADER, ["1", "t", "s"], ["2", "t"]], "row 2: expected number"),
    ],
)
def test_bad_csv(tmp_path: Path, write_csv: WriteCsv, rows: list[list[str]], message: str) -> None:
    write_csv(tmp_path / "Questions.csv", rows)
    with pytest.raises(ValueError, match=message):
        read_pairs(tmp_path / "Questions.csv", "images")
