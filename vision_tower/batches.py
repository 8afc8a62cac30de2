"""Batches for the two tower stages: which rows meet in a step, and the tensors made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from vision_tower.captions import Caption, Captions
from vision_tower.edits import Edits
from vision_tower.images import decode
from vision_tower.tokenizer import Tokenizer

Tokenize = Callable[[list[str]], Tensor]
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


class CaptionsAndEdits(Dataset):
    """Looked up by `Key`, as `PairedSampler` yields them; pictures are decoded here, in workers."""

    def __init__(
        self,
        captions: Sequence[Caption],
        edits: Edits | None,
        preprocess: Callable[[Image.Image], Tensor],
    ) -> None:
        self.captions, self.edits, self.preprocess = captions, edits, preprocess

    def __len__(self) -> int:
        return len(self.captions)

    def __getitem__(self, key: Key) -> CaptionedRow:
        caption = self.captions[key[0]]
        edits = [] if self.edits is None else [self.edits[row] for row in key[1]]
        return CaptionedRow(
            row_ids=[caption.row, *(edit.row for edit in edits)],
            image=self.preprocess(decode(caption.image, caption.row)),
            short=caption.short,
            long=caption.long,
            edit_images=[
                (self.preprocess(edit.source_image), self.preprocess(edit.edited_image))
                for edit in edits
            ],
            edit_captions=[(edit.source_caption, edit.edited_caption) for edit in edits],
        )


class PairedSampler(Sampler[Key]):
    """Caption rows shuffled each epoch, and beside every `batch_size` of them `edit_batch_size`
    edit pairs from an own endless shuffle, so neither set waits for the other.

    Sizes are those of the whole step, over all processes. The order is a pure function of (seed,
    epoch, step); no step holds an edit pair twice. Raises ValueError for sets smaller than a step.
    """

    def __init__(
        self, captions: int, edits: int, batch_size: int, edit_batch_size: int, seed: int
    ) -> None:
        for name, rows, size in (
            ("caption", captions, batch_size),
            ("edit", edits, edit_batch_size),
        ):
            if rows < size:
                raise ValueError(
                    f"one step takes {size} {name} rows over all processes and there are only "
                    f"{rows}: lower the batch size or give more files."
                )
        self.captions, self.edits = captions, edits
        self.batch_size, self.edit_batch_size, self.seed = batch_size, edit_batch_size, seed
        self.epoch = 0
        self._edit_order = lru_cache(maxsize=2)(self._shuffled_edits)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        """Whole steps only: in a smaller one there would be fewer negatives."""
        return self.captions - self.captions % self.batch_size

    def __iter__(self) -> Iterator[Key]:
        order = np.random.default_rng((self.seed, 0, self.epoch)).permutation(self.captions)
        order = order[: len(self)]
        first_step = self.epoch * (self.captions // self.batch_size)
        for slot, caption in enumerate(order.tolist()):
            step, place = divmod(slot, self.batch_size)
            bounds = [(place + i) * self.edit_batch_size // self.batch_size for i in (0, 1)]
            yield caption, self._edits_of(first_step + step, *bounds)

    def _edits_of(self, step: int, start: int, end: int) -> tuple[int, ...]:
        """Pairs start..end of a step. A shuffle ends where the next whole step would not fit."""
        if start == end:
            return ()
        cycle, place = divmod(step, self.edits // self.edit_batch_size)
        offset = place * self.edit_batch_size
        return tuple(self._edit_order(cycle)[offset + start : offset + end].tolist())

    def _shuffled_edits(self, cycle: int) -> np.ndarray:
        return np.random.default_rng((self.seed, 1, cycle)).permutation(self.edits)


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
