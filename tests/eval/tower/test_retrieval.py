"""Retrieval: argmax by hand, short and long captions, equal captions, bad rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from eval.result import point_metrics
from eval.tower.retrieval import Retrieval, best_matches

BENCHMARK = Retrieval()
WORDS = ("cat", "dog", "red", "tree")


class ListTower:
    """The n-th picture it sees is word n; a text is the words it has."""

    logit_scale = torch.tensor(0.0)

    def __init__(self) -> None:
        self.seen = 0

    def preprocess(self, image: Image.Image) -> Tensor:
        self.seen += 1
        return torch.eye(4)[self.seen - 1]

    def tokenizer(self, texts: list[str]) -> Tensor:
        return torch.tensor([[word in text for word in WORDS] for text in texts])

    def encode_image(self, pixel_values: Tensor, normalize: bool = False) -> Tensor:
        return pixel_values

    def encode_text(self, token: Tensor, normalize: bool = False) -> Tensor:
        return token.float()


def write(root: Path, captions: list[str], write_picture: Callable[[Path], None]) -> None:
    rows = []
    for number, caption in enumerate(captions):
        write_picture(root / "images" / f"{number}.jpg")
        turns = [{"from": "human", "value": "<image>"}, {"from": "gpt", "value": caption}]
        rows.append({"id": "x", "image": f"images/{number}.jpg", "conversations": turns})
    (root / "heldout.json").write_text(json.dumps(rows))


def test_short_and_long_by_hand(tmp_path: Path, write_picture: Callable[[Path], None]) -> None:
    # Row 0: found by both captions. Rows 1 and 2 have the same short caption, "A dog", so row 2
    # (the picture "red") is found by its long caption only. Row 3's captions say nothing.
    captions = [
        "A cat. It sits.",
        "A dog. It runs.",
        "A dog. Its collar is red, red.",
        "Grass. Sky.",
    ]
    write(tmp_path, captions, write_picture)
    units = BENCHMARK.measure(ListTower(), tmp_path)
    hits = {name: [unit.counts[name] for unit in units] for name in units[0].counts}
    assert hits["short/image_to_text"] == [1, 1, 0, 0]
    # Text to image: "A dog" of row 2 finds picture 1, an equal caption's; "Grass" ties to 0.
    assert hits["short/text_to_image"] == [1, 1, 0, 0]
    assert hits["short/text_to_image_same_text"] == [1, 1, 1, 0]
    assert hits["long/image_to_text"] == [1, 1, 1, 0]
    metrics = point_metrics(BENCHMARK, units)
    assert metrics["short/image_to_text"] == 0.5
    assert metrics["long/image_to_text"] == 0.75
    assert metrics["long/text_to_image"] == pytest.approx(0.5)
    assert set(BENCHMARK.headlines) <= set(metrics)


def test_argmax_both_ways() -> None:
    torch.manual_seed(2)
    image, text = torch.randn(30, 4), torch.randn(30, 4)
    found = best_matches(image, text, "long")
    for n in range(30):
        to_text = max(range(30), key=lambda k: float(image[n] @ text[k]))
        to_image = max(range(30), key=lambda k: float(image[k] @ text[n]))
        assert found["long/image_to_text"][n] == to_text
        assert found["long/text_to_image"][n] == to_image


def test_missing_picture_and_file(tmp_path: Path, write_picture: Callable[[Path], None]) -> None:
    with pytest.raises(FileNotFoundError, match=r"heldout\.json: no such file"):
        BENCHMARK.files(tmp_path)
    write(tmp_path, ["A cat.", "A dog."], write_picture)
    (tmp_path / "images/1.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"row 1.*images/1\.jpg"):
        BENCHMARK.measure(ListTower(), tmp_path)
