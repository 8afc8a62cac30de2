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

    tokens: of each caption, uncut. sizes: (width, height) in pixels of each picture, as stored.
    words, pictures: digests, to find equal rows.
    """

    problem: str
    tokens: tuple[int, ...] = ()
    sizes: tuple[tuple[int, int], ...] = ()
    words: int = 0
    pictures: int = 0


class CheckedCaptions(Dataset[CheckedRow]):
    """Rows of captions: tokens are those of the short and of the long caption."""

    captions = ("short", "long")

    def __init__(self, captions: Captions, tokenizer: Tokenizer) -> None:
        self.rows, self.tokenizer = captions, tokenizer

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> CheckedRow:
        try:
            told = self.rows.stored(index)
            return _checked((told.short, told.long), {told.row: told.image}, self.tokenizer)
        except ValueError as error:
            return CheckedRow(str(error))


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
                source: located(edit.source_image, folder, source),
                edited: located(edit.edited_image, folder, edited),
            }
            return _checked((edit.source_caption, edit.edited_caption), pictures, self.tokenizer)
        except ValueError as error:
            return CheckedRow(str(error))


def _checked(
    captions: tuple[str, str], pictures: dict[str, Path | bytes], tokenizer: Tokenizer
) -> CheckedRow:
    encoded = {
        where: stored if isinstance(stored, bytes) else _bytes(stored, where)
        for where, stored in pictures.items()
    }
    return CheckedRow(
        problem="",
        tokens=tuple(map(tokenizer.length, captions)),
        sizes=tuple(decode(data, where).size for where, data in encoded.items()),
        words=_digest(*(caption.encode() for caption in captions)),
        pictures=_digest(*encoded.values()),
    )


def _bytes(file: Path, where: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ValueError(f"{where}: {error}. Fetch the picture, or remove the row.") from error


def _digest(*parts: bytes) -> int:
    """64 bits: of 10 million rows two are the same by chance in 3 of a million runs."""
    whole = hashlib.blake2b(digest_size=8)
    for part in parts:
        whole.update(len(part).to_bytes(8) + part)
    return int.from_bytes(whole.digest())
