"""Edited pairs: the four comparisons against a loop of one's own, kinds, and the parquet file."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image
from torch import Tensor

from eval.pictures import open_picture
from eval.result import point_metrics
from eval.tower.edits import Edits, comparisons

BENCHMARK = Edits()


def encoded(colour: tuple[int, int, int]) -> dict[str, object]:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(buffer, format="PNG")
    return {"bytes": buffer.getvalue(), "path": None}


RED, BLUE = (250, 0, 0), (0, 0, 250)


class ColourTower:
    """Sees red and blue; reads the words."""

    logit_scale = torch.tensor(0.0)

    def preprocess(self, image: Image.Image) -> Tensor:
        red, _, blue = image.resize((1, 1)).getpixel((0, 0))
        return torch.tensor([float(red), float(blue)])

    def tokenizer(self, texts: list[str]) -> Tensor:
        return torch.tensor([["red" in text, "blue" in text] for text in texts])

    def encode_image(self, pixel_values: Tensor, normalize: bool = False) -> Tensor:
        return torch.nn.functional.normalize(pixel_values, dim=-1)

    def encode_text(self, token: Tensor, normalize: bool = False) -> Tensor:
        return torch.nn.functional.normalize(token.float() + 1e-3, dim=-1)


def row(source: str, target: str, kind: str | None) -> dict[str, object]:
    values: dict[str, object] = {
        "source_image": encoded(RED),
        "edited_image": encoded(BLUE),
        "source_caption": source,
        "target_caption": target,
        "edit_prompt": "make it blue",
    }
    return values if kind is None else values | {"edit_type": kind}


def save(root: Path, rows: list[dict[str, object]]) -> None:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), root / "heldout.parquet")


def test_four_comparisons_by_hand(tmp_path: Path) -> None:
    save(
        tmp_path,
        [
            row("a red box", "a blue box", "colour"),
            row("a blue box", "a red box", "colour"),
            row("a box", "a box", "shape"),
        ],
    )
    units = BENCHMARK.measure(ColourTower(), tmp_path)
    assert [unit.right for unit in units] == [True, False, False]
    assert [unit.counts["image_to_text"] for unit in units] == [2, 0, 0]
    metrics = point_metrics(BENCHMARK, units)
    assert metrics["all_four"] == pytest.approx(1 / 3)
    assert metrics["image_to_text"] == pytest.approx(1 / 3)
    assert metrics["colour/all_four"] == 0.5
    assert metrics["shape/all_four"] == 0
    assert units[2].answer.startswith("mismatched: source picture, edited picture")
    assert open_picture(tmp_path, units[0].images[1]).getpixel((0, 0)) == BLUE


def test_comparisons_are_the_four_strict_inequalities() -> None:
    torch.manual_seed(1)
    image, text = torch.randn(60, 3), torch.randn(60, 3)
    text[5] = text[4]  # equal captions: no picture can prefer its own
    found = comparisons(image, text).tolist()
    for pair in range(30):
        source, edited = 2 * pair, 2 * pair + 1

        def score(i: int, t: int) -> float:
            return float(image[i] @ text[t])

        expected = [
            score(source, source) > score(source, edited),
            score(edited, edited) > score(edited, source),
            score(source, source) > score(edited, source),
            score(edited, edited) > score(source, edited),
        ]
        if pair == 2:
            assert found[pair][:2] == [False, False]
        else:
            assert found[pair] == expected


def test_file_without_kinds(tmp_path: Path) -> None:
    save(tmp_path, [row("a red box", "a blue box", None)])
    [unit] = BENCHMARK.measure(ColourTower(), tmp_path)
    assert unit.category == ""
    assert set(point_metrics(BENCHMARK, [unit])) == {
        "all_four", "image_to_text", "text_to_image", "image_to_text_both", "text_to_image_both",
    }  # fmt: skip


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no heldout\*\.parquet"):
        BENCHMARK.files(tmp_path)
