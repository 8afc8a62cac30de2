"""The published edit data sets: the columns each has, and the edit pairs a row of it holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vision_tower.images import Stored


@dataclass(frozen=True, slots=True)
class StoredEdit:
    """An edit pair as a row holds it. Captions are empty where the data set has none."""

    source_image: Stored
    edited_image: Stored
    instruction: str
    source_caption: str
    edited_caption: str
    kind: str


@dataclass(frozen=True)
class EditColumns:
    """Where a data set keeps the parts of an edit pair.

    A column of pictures may hold a list, of which the source is the first and the edited one the
    last; a column of instructions a list, of which the first is taken, or a LLaVA conversation.
    """

    source_image: str
    edited_image: str
    instruction: str = ""
    source_caption: str = ""
    edited_caption: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        parts = (self.source_image, self.edited_image, self.instruction, *self.captions)
        return tuple(dict.fromkeys(name for name in parts if name))

    @property
    def captions(self) -> tuple[str, ...]:
        return tuple(name for name in (self.source_caption, self.edited_caption) if name)

    def read(self, row: dict[str, Any]) -> StoredEdit:
        source, edited = row[self.source_image], row[self.edited_image]
        if self.source_image == self.edited_image and len(source) < 2:
            raise ValueError(f"{self.source_image} holds one picture, and a pair has two")
        return StoredEdit(
            source_image=source[0] if isinstance(source, list) else source,
            edited_image=edited[-1] if isinstance(edited, list) else edited,
            instruction=_text(row[self.instruction]) if self.instruction else "",
            source_caption=_text(row[self.source_caption]) if self.source_caption else "",
            edited_caption=_text(row[self.edited_caption]) if self.edited_caption else "",
            kind=row.get("edit_type") or "",
        )


def _text(value: Any) -> str:
    if isinstance(value, list):
        value = value[0] if value else ""
    if isinstance(value, dict):  # a turn of LLaVA's conversations
        value = value["value"].replace("<image>", "")
    if isinstance(value, bytes):  # a member of a tar
        value = value.decode("utf-8")
    return (value or "").strip()


# A table is the first of these whose columns it has. HQ-Edit's inverse edits are left out: L_HN is
# the same for a pair turned round, and only the instruction would be new.
EDIT_FORMATS = {
    "UltraEdit": EditColumns(
        "source_image", "edited_image", "edit_prompt", "source_caption", "target_caption"
    ),
    "InstructPix2Pix": EditColumns(
        "original_image", "edited_image", "edit_prompt", "original_prompt", "edited_prompt"
    ),
    "HQ-Edit": EditColumns("input_image", "output_image", "edit", "input", "output"),
    "AnyEdit": EditColumns("image_file", "edited_file", "edit_instruction", "input", "output"),
    "AnyEdit (json)": EditColumns("image_file", "edited_file", "edit", "input", "output"),
    "TripletData": EditColumns("image", "neg_image", "", "caption", "neg_caption"),
    "MagicBrush": EditColumns("source_img", "target_img", "instruction"),
    "OmniEdit": EditColumns("src_img", "edited_img", "edited_prompt_list"),
    "SEED-Data-Edit": EditColumns("source_image", "target_image", "instruction"),
    "ImgEdit": EditColumns("input_images", "output_images", "prompt"),
    "Pico-Banana": EditColumns("local_input_image", "output_image", "text"),
    "GPT-Image-Edit": EditColumns("image", "image", "conversations"),
}
