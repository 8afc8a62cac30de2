"""Which conversations fill a batch together."""

from __future__ import annotations

import io
import struct
from bisect import bisect_left, insort
from collections.abc import Sequence, Sized
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
        encoded = isinstance(picture, bytes)
        return load_image(Image.open(io.BytesIO(picture)) if encoded else str(picture))
    # PIL's errors; broken chunks of a png are its SyntaxError, broken EXIF data the next two.
    except (
        *(OSError, ValueError, SyntaxError, struct.error, TypeError),
        Image.DecompressionBombError,
    ) as error:
        what = "a picture" if isinstance(picture, bytes) else f"the picture {picture}"
        raise ConversationError(
            f"{row.source}: {what} cannot be decoded ({error}): replace it or remove the row"
        ) from error


def pack(lengths: Sequence[int], room: int, seed: int) -> list[Pack]:
    """Every row, whole, in packs of at most `room` tokens: best fit, longest first, among rows that
    a shuffle brought together. The packs depend on the arguments alone.

    Args:
        lengths: of the rows, at most `room`.
        room: tokens of a pack.
        seed: of the shuffle.
    """
    order = np.random.default_rng(seed).permutation(len(lengths))
    packs = []
    for start in range(0, len(order), WINDOW):
        window = sorted(order[start : start + WINDOW].tolist(), key=lambda row: -lengths[row])
        packs += _best_fit([(row, lengths[row]) for row in window], room)
    return packs


def _best_fit(rows: Sequence[tuple[int, int]], room: int) -> list[Pack]:
    """(row, length) in turn, each into the pack that it leaves least room in."""
    packs: list[Pack] = []
    left: list[tuple[int, int]] = []  # tokens that still fit, and the pack; in order
    for row, length in rows:
        at = bisect_left(left, (length, -1))
        if at == len(left):
            packs.append([])
            free, number = room, len(packs) - 1
        else:
            free, number = left.pop(at)
        packs[number].append(row)
        insort(left, (free - length, number))
    return packs
