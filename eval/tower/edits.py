"""Source against edit: does the tower match each picture of an edited pair with its caption?

Held-out rows in UltraEdit's format (parquet). A pair has two pictures and two captions, hence
four comparisons, all strict: each picture must prefer its own caption (image to text), each
caption its own picture (text to image).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from eval.benchmark import Counts, EmbeddingTower, Kind, Unit, ratio
from eval.pictures import cell_name
from eval.tower.embedding import embed_images, embed_texts
from vision_tower import edits as edit_files
from vision_tower.edit_formats import EDIT_FORMATS

KINDS = {
    "all_four": Kind("all four comparisons right"),
    "image_to_text": Kind("image to text"),
    "text_to_image": Kind("text to image"),
    "image_to_text_both": Kind("image to text, both pictures right"),
    "text_to_image_both": Kind("text to image, both captions right"),
}


@dataclass(frozen=True)
class EditPair:
    """One row: kind of edit ("" where there is none), captions and pictures (source, edited)."""

    id: str
    kind: str
    captions: tuple[str, str]
    images: tuple[str, str]


@dataclass(frozen=True)
class Edits:
    """Accuracy of source against edit, by kind of edit where the file has `edit_type`."""

    name: str = "edits"
    title: str = "Edited pairs"
    folder: str = "edits"
    parser: str = "edits-1"
    headlines: tuple[str, ...] = ("all_four", "image_to_text", "text_to_image")

    @property
    def kinds(self) -> Mapping[str, Kind]:
        return KINDS

    def files(self, root: Path) -> list[Path]:
        """The held-out rows: `heldout*.parquet`."""
        paths = sorted(root.glob("heldout*.parquet"))
        if not paths:
            raise FileNotFoundError(f"{root}: no heldout*.parquet in UltraEdit's columns there.")
        return paths

    def measure(self, tower: EmbeddingTower, root: Path) -> list[Unit]:
        """One unit per pair."""
        sources = [(path, _ultra_edit(path)) for path in self.files(root)]
        pairs = [pair for path, edits in sources for pair in read_pairs(path, edits)]
        openers = [
            partial(_picture, edits, row, side)
            for _, edits in sources
            for row in range(len(edits))
            for side in ("source_image", "edited_image")
        ]
        image_ND = embed_images(tower, openers, self.title)
        text_ND = embed_texts(tower, [text for pair in pairs for text in pair.captions], self.title)
        right_P4 = comparisons(image_ND, text_ND)
        return [_unit(pair, right) for pair, right in zip(pairs, right_P4.tolist(), strict=True)]

    def metrics(self, sums: Counts) -> dict[str, np.ndarray]:
        kinds = [name.removesuffix("/pairs") for name in sums if name.endswith("/pairs")]
        return {
            "all_four": ratio(sums["all_four"], sums["pairs"]),
            "image_to_text": ratio(sums["image_to_text"], 2 * sums["pairs"]),
            "text_to_image": ratio(sums["text_to_image"], 2 * sums["pairs"]),
            "image_to_text_both": ratio(sums["image_to_text_both"], sums["pairs"]),
            "text_to_image_both": ratio(sums["text_to_image_both"], sums["pairs"]),
        } | {f"{k}/all_four": ratio(sums[f"{k}/right"], sums[f"{k}/pairs"]) for k in kinds}


def _ultra_edit(path: Path) -> edit_files.Edits:
    """The gallery looks pictures up in UltraEdit's columns."""
    edits = edit_files.Edits([path])
    if edits.columns != {EDIT_FORMATS["UltraEdit"]}:
        raise ValueError(f"{path} has not UltraEdit's columns. Rename them.")
    return edits


def read_pairs(path: Path, edits: edit_files.Edits) -> list[EditPair]:
    """Captions and kinds of one file's rows; pictures stay in the file, named by row and column."""
    stored = (edits.stored(row)[-1] for row in range(len(edits)))
    return [
        EditPair(
            id=f"{path.stem}-{row}",
            kind=edit.kind,
            captions=(edit.source_caption, edit.edited_caption),
            images=(
                cell_name(path.name, row, "source_image"),
                cell_name(path.name, row, "edited_image"),
            ),
        )
        for row, edit in enumerate(stored)
    ]


def _picture(
    edits: edit_files.Edits, row: int, side: Literal["source_image", "edited_image"]
) -> Image.Image:
    edit = edits[row]
    return edit.source_image if side == "source_image" else edit.edited_image


def comparisons(image_ND: Tensor, text_ND: Tensor) -> Tensor:
    """The four comparisons of each pair, strict: bool [P, 4].

    Rows come as source, edited, source, …. Order: source picture and edited picture choose their
    caption, source caption and edited caption choose their picture. An edit whose captions are
    equal can have no comparison right.
    """
    image_P2D, text_P2D = image_ND.unflatten(0, (-1, 2)), text_ND.unflatten(0, (-1, 2))
    own_P2 = (image_P2D * text_P2D).sum(dim=-1)
    crossed_P2 = (image_P2D * text_P2D.flip(1)).sum(dim=-1)
    # Source picture with edited caption is the rival of the source picture, and, seen from the
    # texts, of the edited caption.
    return torch.cat([own_P2 > crossed_P2, own_P2 > crossed_P2.flip(1)], dim=1)


def _unit(pair: EditPair, right: Sequence[bool]) -> Unit:
    images, texts = right[:2], right[2:]
    counts = {
        "pairs": 1,
        "all_four": all(right),
        "image_to_text": sum(images),
        "text_to_image": sum(texts),
        "image_to_text_both": all(images),
        "text_to_image_both": all(texts),
    }
    if pair.kind:
        counts |= {f"{pair.kind}/pairs": 1, f"{pair.kind}/right": all(right)}
    names = ("source picture", "edited picture", "source caption", "edited caption")
    missed = [name for name, ok in zip(names, right, strict=True) if not ok]
    return Unit(
        id=pair.id,
        cluster=pair.id,
        counts={name: float(value) for name, value in counts.items()},
        right=all(right),
        category=pair.kind,
        question=" | ".join(pair.captions),
        answer="all matched" if not missed else f"mismatched: {', '.join(missed)}",
        reading="",
        label="all matched",
        images=pair.images,
    )
