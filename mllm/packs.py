"""Which conversations fill a batch together."""

from __future__ import annotations

import io
import struct
from bisect import bisect_left, insort
from collections.abc import Sequence, Sized
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
from PIL import Image
from torch.utils.data import Dataset
from transformers.image_utils import load_image

from mllm.conversations import Conversation, ConversationError, Picture

# Rows that packs are chosen from together. More of them would fill no better.
WINDOW = 4096
Pack = list[int]


class OpenedRow(NamedTuple):
    """A conversation, and its pictures decoded."""

    conversation: Conversation
    pictures: list[Image.Image]


class OpenedRows(Dataset[OpenedRow]):
    """Conversations with their pictures, which are decoded when a row is asked for."""

    def __init__(self, rows: Dataset[Conversation]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(cast("Sized", self.rows))

    def __getitem__(self, index: int) -> OpenedRow:
        """Raises ConversationError for a row, or a picture, that cannot be read."""
        row = self.rows[index]
        return OpenedRow(row, [_opened(picture, row) for picture in row.pictures])


class Packs(Dataset[list[OpenedRow]]):
    """Rows in packs."""

    def __init__(self, rows: Dataset[OpenedRow], packs: Sequence[Pack]) -> None:
        self.rows, self.packs = rows, packs

    def __len__(self) -> int:
        return len(self.packs)

    def __getitem__(self, index: int) -> list[OpenedRow]:
        return [self.rows[row] for row in self.packs[index]]


def _opened(picture: Picture, row: Conversation) -> Image.Image:
    try:
        # Opened here: of a path that is not there load_image says it is no base64.
        return load_image(
            Image.open(io.BytesIO(picture) if isinstance(picture, bytes) else picture)
        )
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise ConversationError(row.lacks(cast("Path", picture))) from error
    # PIL's errors; broken chunks of a png are its SyntaxError, broken EXIF data the next two.
    except (
        *(OSError, ValueError, SyntaxError, struct.error, TypeError),
        Image.DecompressionBombError,
    ) as error:
        what = "a picture" if isinstance(picture, bytes) else f"the picture {picture}"
        raise ConversationError(
            f"{row.source}: {what} cannot be decoded ({error}): replace it or remove the row"
        ) from error


def pack(
    lengths: Sequence[int], pictured: Sequence[bool], room: int, blank: int, seed: int
) -> list[Pack]:
    """Every row, whole, in packs of at most `room` tokens: best fit, longest first, among rows that
    a shuffle brought together. The packs depend on the arguments alone.

    Args:
        lengths: of the rows, at most `room`; without a picture, at most `room` less `blank`.
        pictured: which of them have a picture.
        room: tokens of a pack.
        blank: tokens of the blank picture that a pack without any is given (`mllm.collate`).
        seed: of the shuffle.
    """
    order = np.random.default_rng(seed).permutation(len(lengths))
    packs = []
    for start in range(0, len(order), WINDOW):
        window = sorted(order[start : start + WINDOW].tolist(), key=lambda row: -lengths[row])
        rows = [(row, lengths[row], bool(pictured[row])) for row in window]
        packs += _best_fit(rows, room, blank)
    return packs


def _best_fit(rows: Sequence[tuple[int, int, bool]], room: int, blank: int) -> list[Pack]:
    """(row, length, whether it has a picture) in turn, each into the pack that it leaves least
    room in."""
    packs: list[Pack] = []
    # Tokens that still fit, and the pack; in order. Of packs without a picture, and of those with.
    bare, seeing = list[tuple[int, int]](), list[tuple[int, int]]()
    for row, length, pictured in rows:
        # The first picture of a pack takes the place that is kept for a blank one.
        needs = [(bare, length - blank if pictured else length), (seeing, length)]
        fits = [(left, bisect_left(left, (need, -1)), need) for left, need in needs]
        open_to = [(left[at][0] - need, left, at) for left, at, need in fits if at < len(left)]
        if open_to:
            free, left, at = min(open_to, key=lambda one: one[0])
            _, number = left.pop(at)
        else:
            packs.append([])
            left, number, free = bare, len(packs) - 1, room - blank - needs[0][1]
        packs[number].append(row)
        insort(seeing if pictured else left, (free, number))
    return packs
