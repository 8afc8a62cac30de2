"""Which conversations fill a batch together."""

from __future__ import annotations

import io
from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import NamedTuple

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


class Packs(Dataset[list[OpenedRow]]):
    """Rows in packs; pictures are decoded when a pack is asked for."""

    def __init__(self, rows: Dataset[Conversation], packs: Sequence[Pack]) -> None:
        self.rows, self.packs = rows, packs

    def __len__(self) -> int:
        return len(self.packs)

    def __getitem__(self, index: int) -> list[OpenedRow]:
        """Raises ConversationError for a row, or a picture, that cannot be read."""
        conversations = [self.rows[row] for row in self.packs[index]]
        return [OpenedRow(row, [_opened(p, row) for p in row.pictures]) for row in conversations]


def _opened(picture: Picture, row: Conversation) -> Image.Image:
    try:
        encoded = isinstance(picture, bytes)
        return load_image(Image.open(io.BytesIO(picture)) if encoded else str(picture))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        what = "a picture" if isinstance(picture, bytes) else f"the picture {picture}"
        raise ConversationError(
            f"{row.source}: {what} cannot be decoded ({error}): replace it or remove the row"
        ) from error


def pack(rows: Sequence[int], lengths: Sequence[int], room: int, seed: int) -> list[Pack]:
    """Every row, whole, in packs of at most `room` tokens: best fit, longest first, among rows that
    a shuffle brought together. The packs depend on the arguments alone.

    Args:
        rows: to be packed; one may come several times.
        lengths: of each of `rows`, at most `room`.
        room: tokens of a pack.
        seed: of the shuffle.
    """
    order = np.random.default_rng(seed).permutation(len(rows))
    packs = []
    for start in range(0, len(order), WINDOW):
        window = sorted(order[start : start + WINDOW], key=lambda place: -lengths[place])
        packs += _best_fit([(rows[place], lengths[place]) for place in window], room)
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
        packs[number].append(int(row))
        insort(left, (free - length, number))
    return packs
