"""Batches for the two tower stages: which rows meet in a step, and the tensors made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from vision_tower.captions import Caption, Captions
from vision_tower.edits import Edit
from vision_tower.mixture import Mixture
from vision_tower.tokenizer import Tokenizer

Tokenize = Callable[[list[str]], Tensor]
Row_co = TypeVar("Row_co", covariant=True)
Key = tuple[int, tuple[int, ...]]  # a caption's row, and the rows of the edit pairs beside it


@dataclass(frozen=True, slots=True)
class CaptionedRow:
    """A described picture and 0 or more edit pairs; `edit_images` holds source, edited, ..."""

    row_ids: list[str]
    image: Tensor
    short: str
    long: str
    edit_images: list[tuple[Tensor, Tensor]]
    edit_captions: list[tuple[str, str]]


class Rows(Protocol[Row_co]):
    """Map-style rows, of one set or several."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Row_co: ...


class CaptionsAndEdits(Dataset):
    """Looked up by `Key`, as `PairedSampler` yields them; pictures are decoded here, in workers."""

    def __init__(
        self,
        captions: Rows[Caption],
        edits: Rows[Edit],
        preprocess: Callable[[Image.Image], Tensor],
    ) -> None:
        self.captions, self.edits, self.preprocess = captions, edits, preprocess

    def __len__(self) -> int:
        return len(self.captions)

    def __getitem__(self, key: Key) -> CaptionedRow:
        caption = self.captions[key[0]]
        edits = [self.edits[row] for row in key[1]]
        return CaptionedRow(
            row_ids=[caption.row, *(edit.row for edit in edits)],
            image=self.preprocess(caption.image),
            short=caption.short,
            long=caption.long,
            edit_images=[
                (self.preprocess(edit.source_image), self.preprocess(edit.edited_image))
                for edit in edits
            ],
            edit_captions=[(edit.source_caption, edit.edited_caption) for edit in edits],
        )


class PairedSampler(Sampler[Key]):
    """The caption rows of each step, and beside them its edit pairs, spread evenly: every device
    and micro-batch takes a run of the step.

    An epoch is one of the captions; edit pairs go on from one to the next. A step is a pure
    function of (seed, epoch, step).
    """

    def __init__(self, captions: Mixture, edits: Mixture) -> None:
        self.captions, self.edits, self.epoch = captions, edits, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.captions)

    def __iter__(self) -> Iterator[Key]:
        beside = self.edits.batch_size
        steps = self.captions.steps
        for step in range(self.epoch * steps, (self.epoch + 1) * steps):
            edits = self.edits.of(step)
            for place, caption in enumerate(self.captions.of(step)):
                start, end = (at * beside // self.captions.batch_size for at in (place, place + 1))
                yield caption, tuple(edits[start:end])


class PairCollator:
    """Rows to the arguments of `ContrastiveObjective`: pictures and short texts are ordered
    captions, sources, edited, and go through each encoder together."""

    def __init__(self, tokenize: Tokenize) -> None:
        self.tokenize = tokenize

    def __call__(self, rows: list[CaptionedRow]) -> dict[str, Tensor | list[str]]:
        images = [pair for row in rows for pair in row.edit_images]
        captions = [pair for row in rows for pair in row.edit_captions]
        sources, edited = ([pair[side] for pair in images] for side in (0, 1))
        texts = [row.short for row in rows] + [pair[side] for side in (0, 1) for pair in captions]
        return {
            "pixel_values": torch.stack([*(row.image for row in rows), *sources, *edited]),
            "short_tokens": self.tokenize(texts),
            "long_tokens": self.tokenize([row.long for row in rows]),
            "row_ids": [name for row in rows for name in row.row_ids],
        }


class CaptionTexts(Dataset):
    """Stage 1's rows: every short caption and every long one, as (row id, text)."""

    def __init__(self, captions: Captions) -> None:
        self.captions = captions

    def __len__(self) -> int:
        return 2 * len(self.captions)

    def __getitem__(self, index: int) -> tuple[str, str]:
        told = self.captions.texts(index // 2)
        return told.row, told.long if index % 2 else told.short


class TextCollator:
    """Texts to token ids, cut at the teacher's window, for teacher and student."""

    def __init__(self, teacher: Tokenizer, student: Tokenizer) -> None:
        self.teacher, self.student = teacher, student

    def __call__(self, rows: list[tuple[str, str]]) -> dict[str, Tensor | list[str]]:
        row_ids, texts = (list(column) for column in zip(*rows, strict=True))
        tokens = self.teacher(texts)
        padded = self.student.padded(tokens)
        return {"tokens": tokens, "student_tokens": padded, "row_ids": row_ids}
