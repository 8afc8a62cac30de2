"""Look at rows as training will: decode their pictures, count their captions' tokens."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from torch.utils.data import Dataset

from vision_tower.captions import Captions
from vision_tower.edits import Edits
from vision_tower.images import decode, located
from vision_tower.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class CheckedRow:
    """What is known of a row: `problem` alone if it cannot be trained on.

    stops: whether training would refuse to start, where it replaces what turns out broken later.
    tokens: of each caption, uncut. sizes: (width, height) in pixels of each picture, as stored.
    words, pictures: digests, to find equal rows.
    """

    problem: str
    stops: bool = False
    tokens: tuple[int, ...] = ()
    sizes: tuple[tuple[int, int], ...] = ()
    words: int = 0
    pictures: int = 0


class CheckedCaptions(Dataset[CheckedRow]):
    """Rows of captions, with or without their `pictures`: tokens are those of the short and of the
    long caption."""

    captions = ("short", "long")

    def __init__(self, captions: Captions, tokenizer: Tokenizer, pictures: bool) -> None:
        self.rows, self.tokenizer, self.pictures = captions, tokenizer, pictures

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> CheckedRow:
        try:  # as Captions.check
            told = self.rows.texts(index)
            pictures = {}
            if self.pictures:
                pictures[told.row] = _bytes(self.rows.stored(index).image, told.row)
        except ValueError as error:
            return CheckedRow(str(error), stops=True)
        return _checked((told.short, told.long), pictures, self.tokenizer)


class CheckedEdits(Dataset[CheckedRow]):
    """Edit pairs: tokens are those of the source and of the edited picture's caption."""

    captions = ("source", "edited")

    def __init__(self, edits: Edits, tokenizer: Tokenizer) -> None:
        self.rows, self.tokenizer = edits, tokenizer

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> CheckedRow:
        try:
            row, folder, edit = self.rows.stored(index)
            source, edited = f"{row}, source_image", f"{row}, edited_image"
            pictures = {
                source: _bytes(located(edit.source_image, folder, source), source),
                edited: _bytes(located(edit.edited_image, folder, edited), edited),
            }
        except ValueError as error:
            return CheckedRow(str(error))
        return _checked((edit.source_caption, edit.edited_caption), pictures, self.tokenizer)


def _checked(
    captions: tuple[str, str], pictures: dict[str, bytes], tokenizer: Tokenizer
) -> CheckedRow:
    try:
        sizes = tuple(decode(encoded, where).size for where, encoded in pictures.items())
    except ValueError as error:
        return CheckedRow(str(error))
    return CheckedRow(
        problem="",
        tokens=tuple(map(tokenizer.length, captions)),
        sizes=sizes,
        words=_digest(*(caption.encode() for caption in captions)),
        pictures=_digest(*pictures.values()),
    )


def _bytes(stored: Path | bytes, where: str) -> bytes:
    try:
        return stored if isinstance(stored, bytes) else stored.read_bytes()
    except OSError as error:
        raise ValueError(f"{where}: {error}. Fetch the picture, or remove the row.") from error


def _digest(*parts: bytes) -> int:
    """64 bits: of 10 million rows two are the same by chance in 3 of a million runs."""
    whole = hashlib.blake2b(digest_size=8)
    for part in parts:
        whole.update(len(part).to_bytes(8) + part)
    return int.from_bytes(whole.digest())
