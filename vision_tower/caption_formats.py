"""The published sets of long captions: the columns each has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class CaptionColumns:
    """Where a data set keeps a picture, its long caption, and its short one if it has one.

    The long one may be in a conversation, as its one gpt turn.
    """

    image: str
    long: str
    short: str = ""
    conversation: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name in (self.image, self.long, self.short) if name)

    def texts(self, row: dict[str, Any]) -> tuple[str, str]:
        """(short, long), one line each. Without a short caption, the first sentence of the long
        one (Long-CLIP's and TULIP's rule). Raises ValueError for what is no caption."""
        long = row[self.long]
        if self.conversation:
            answers = [turn["value"] for turn in long if turn["from"] == "gpt"]
            if len(answers) != 1:
                raise ValueError(f"the conversation has {len(answers)} gpt turns, not one")
            long = answers[0]
        long = _one_line(long)
        if not long:
            raise ValueError("the caption is empty")
        short = _one_line(row[self.short]) if self.short else ""
        return short or first_sentence(long), long


def _one_line(text: str | bytes | None) -> str:
    """Members of tars are bytes."""
    return " ".join((text.decode("utf-8") if isinstance(text, bytes) else text or "").split())


def named_columns(columns: Mapping[str, str]) -> CaptionColumns:
    """From {"image": column, "long": column} and, if there is one, "short": column.

    Raises ValueError for anything else.
    """
    if not {"image", "long"} <= columns.keys() <= {"image", "long", "short"}:
        raise ValueError(
            f"the columns {dict(columns)} are not understood: give those of image and long and, if "
            "there is one, of short."
        )
    return CaptionColumns(columns["image"], columns["long"], columns.get("short", ""))


def first_sentence(caption: str) -> str:
    """Up to the first full stop that a space follows; the whole caption if there is none."""
    return caption.split(". ", 1)[0].removesuffix(".")


# A table is the first of these whose columns it has. Sets published as lists of addresses
# (DreamLIP, PixelProse, Recap-DataComp, IIW) want their pictures fetched first: their column of
# paths, or of bytes, is here "image" (DreamLIP's own column holds what was put there).
CAPTION_FORMATS = {
    "ShareGPT4V": CaptionColumns("image", "conversations", conversation=True),
    "DreamLIP": CaptionColumns("Image Path", "longSV_captions", "raw_caption"),
    "DOCCI": CaptionColumns("image_file", "description"),
    "DCI": CaptionColumns("image", "extra_caption", "short_caption"),
    "Long-DCI": CaptionColumns("filepath", "title"),
    "PixelProse": CaptionColumns("image", "vlm_caption", "original_caption"),
    "Recap-DataComp": CaptionColumns("image", "re_caption", "org_caption"),
    "DenseFusion": CaptionColumns("image", "caption"),
    "IIW": CaptionColumns("image", "IIW"),
}
