"""Retrieval: find the caption of a picture, and the picture of a caption, among all of the set.

Rows in ShareGPT4V's format, picture paths relative to the benchmark's folder. Every row is used
twice: with its long caption and with its short one, the long one's first sentence (the rule of
Long-CLIP and TULIP). R@1 is Long-CLIP's argmax: right iff the best-scoring item is the row's own.
Where several rows have the same caption, at most one of them can then be right; `…_same_text`
counts a hit on an equal caption too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from eval.benchmark import Counts, EmbeddingTower, Kind, Unit, ratio
from eval.tower.embedding import embed_images, embed_texts
from vision_tower.captions import Captions, StoredCaption
from vision_tower.images import decode

Length = Literal["short", "long"]
LENGTHS: tuple[Length, ...] = ("short", "long")

KINDS = {
    "image_to_text": Kind("image to text R@1"),
    "text_to_image": Kind("text to image R@1"),
    "image_to_text_same_text": Kind("image to text R@1, equal captions count"),
    "text_to_image_same_text": Kind("text to image R@1, equal captions count"),
}


@dataclass(frozen=True)
class Retrieval:
    """R@1 both ways, with short and with long captions.

    The gallery is the whole set; a resample draws queries and keeps the gallery.
    """

    name: str = "retrieval"
    title: str = "Retrieval"
    folder: str = "captions"
    parser: str = "retrieval-argmax-1"
    headlines: tuple[str, ...] = (
        "long/image_to_text",
        "long/text_to_image",
        "short/image_to_text",
        "short/text_to_image",
    )

    @property
    def kinds(self) -> Mapping[str, Kind]:
        return KINDS

    def files(self, root: Path) -> list[Path]:
        path = root / "heldout.json"
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file; it holds ShareGPT4V rows kept apart.")
        return [path]

    def measure(self, tower: EmbeddingTower, root: Path) -> list[Unit]:
        """One unit per row; units are numbered, for ids need not be unique in these files."""
        captions = Captions(self.files(root), image_root=root)
        captions.check()
        rows = [captions.stored(row) for row in range(len(captions))]
        openers = [partial(decode, row.image, row.row) for row in rows]
        image_ND = embed_images(tower, openers, self.title)
        found: dict[str, list[int]] = {}
        for length in LENGTHS:
            texts = [row.short if length == "short" else row.long for row in rows]
            text_ND = embed_texts(tower, texts, f"{self.title}, {length} captions")
            found |= best_matches(image_ND, text_ND, length)
        return [_unit(root, rows, number, found) for number in range(len(rows))]

    def metrics(self, sums: Counts) -> dict[str, np.ndarray]:
        return {name: ratio(sums[name], sums["rows"]) for name in sums if name != "rows"}


def best_matches(image_ND: Tensor, text_ND: Tensor, length: Length) -> dict[str, list[int]]:
    """Index of the best text for each image and of the best image for each text (argmax)."""
    similarity_IT = image_ND @ text_ND.T
    return {
        f"{length}/image_to_text": torch.argmax(similarity_IT, dim=1).tolist(),
        f"{length}/text_to_image": torch.argmax(similarity_IT, dim=0).tolist(),
    }


def _unit(
    root: Path, rows: Sequence[StoredCaption], number: int, found: Mapping[str, Sequence[int]]
) -> Unit:
    own = rows[number]
    counts = {"rows": 1.0}
    for name, best in found.items():
        hit = rows[best[number]]
        same = hit.short == own.short if name.startswith("short/") else hit.long == own.long
        counts[name] = float(best[number] == number)
        counts[f"{name}_same_text"] = float(same)
    return Unit(
        id=str(number),
        cluster=str(number),
        counts=counts,
        right=None,
        category="",
        question=own.short,
        answer=", ".join(name for name, best in found.items() if best[number] == number),
        reading="",
        label=", ".join(found),
        images=(own.image.relative_to(root).as_posix(),) if isinstance(own.image, Path) else (),
    )
