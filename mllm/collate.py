"""From conversations to a batch: one tokenisation, labels from the template's own generation spans.

Shapes: B rows, T tokens, K kept positions, N pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from transformers import LlavaProcessor
from transformers.image_utils import load_image

from mllm.conversations import Conversation, ConversationError

IGNORED = -100
# A token covers at least one byte of text; what normalisation and a first word boundary may add.
_MARGIN = 32


@dataclass
class _Row:
    """One tokenised conversation, placeholders expanded. All three have the same length."""

    input_ids: list[int]
    attention_mask: list[int]
    labels: list[int]


class Collator:
    """Turns a list of `Conversation` into the arguments of `LlavaForConditionalGeneration.forward`,
    and `row_ids` for the trainer's messages.

    Besides the usual tensors a batch holds `logits_to_keep` [K], the positions where any row
    predicts a supervised token, and `shift_labels` [B, K], what they predict: the
    vocabulary-sized logits are computed there alone. Trainer counts `shift_labels` for its
    normalisation, so the loss is the mean over the supervised tokens of the global batch.
    """

    def __init__(self, processor: LlavaProcessor, image_tokens: int, max_length: int) -> None:
        """
        Args:
            processor: of the checkpoint that is trained.
            image_tokens: placeholders per picture, see `mllm.assemble.image_token_count`.
            max_length: tokens a row may have, pictures included; longer rows lose their end.
        """
        self.processor = processor
        self.image_tokens = image_tokens
        self.max_length = max_length

    def __call__(self, rows: Sequence[Conversation]) -> dict[str, Any]:
        encoded = self._encode(rows)
        pictures = [_open_picture(row) for row in rows if row.image is not None]
        if not pictures:
            pictures = [self._append_blank(encoded)]
        batch = self._pad(encoded)
        images = self.processor.image_processor(images=pictures, return_tensors="pt")
        batch["pixel_values"] = images["pixel_values"]
        batch |= _supervised_positions(batch["labels"])
        # The model would fill a key-value cache in training too, for nobody.
        return {**batch, "use_cache": False, "row_ids": [row.source for row in rows]}

    def check_lengths(self, rows: Sequence[Conversation]) -> None:
        """Raise now for a row whose first answer would be cut off whole, instead of in
        mid-training.

        Only rows with more bytes than there is room for tokens can be such; nobody else is
        tokenised.
        """
        opening = self.processor.tokenizer.apply_chat_template(
            [{"role": "user", "content": ""}], add_generation_prompt=True, return_dict=True
        )
        room = self.max_length - len(opening["input_ids"]) - _MARGIN
        for row in rows:
            pictures = 0 if row.image is None else self.image_tokens
            if len(row.turns[0].encode()) > room - pictures:
                self._encode([row])

    def _encode(self, rows: Sequence[Conversation]) -> list[_Row]:
        """Tokenise all rows at once. The placeholder is expanded afterwards: it is one special
        token that merges with nothing, so this equals tokenising 576 of them and costs
        nothing."""
        tokens = self.processor.tokenizer.apply_chat_template(
            [row.messages() for row in rows],
            tokenize=True,
            return_dict=True,
            return_assistant_tokens_mask=True,
        )
        return [
            self._expand(row, ids, spoken)
            for row, ids, spoken in zip(
                rows, tokens["input_ids"], tokens["assistant_masks"], strict=True
            )
        ]

    def _expand(self, row: Conversation, ids: list[int], spoken: list[int]) -> _Row:
        labels = [token if said else IGNORED for token, said in zip(ids, spoken, strict=True)]
        image_id = self.processor.image_token_id
        if row.image is not None:
            at = ids.index(image_id)
            if at + self.image_tokens > self.max_length:
                raise ConversationError(
                    f"{row.source}: max_length={self.max_length} cuts into the picture's "
                    f"{self.image_tokens} tokens: raise max_length"
                )
            ids = [*ids[:at], *[image_id] * self.image_tokens, *ids[at + 1 :]]
            labels = [*labels[:at], *[IGNORED] * self.image_tokens, *labels[at + 1 :]]
        ids, labels = ids[: self.max_length], labels[: self.max_length]
        if all(label == IGNORED for label in labels):
            raise ConversationError(
                f"{row.source}: nothing is left to learn within max_length={self.max_length}: "
                "raise max_length or shorten the first question"
            )
        return _Row(ids, [1] * len(ids), labels)

    def _append_blank(self, encoded: list[_Row]) -> Image.Image:
        """Give a text-only batch one blank picture, masked and unlabelled, behind its shortest row.

        Every rank then runs tower and projector once per batch, whatever its rows are: under
        ZeRO-3 a rank that skipped them would wait for ever (DeepSpeed #7170), and with only the
        projector trainable the loss would have no gradient. Nothing attends to it, so the loss is
        the same to the last bit.
        """
        shortest = min(encoded, key=lambda row: len(row.input_ids))
        shortest.input_ids += [self.processor.image_token_id] * self.image_tokens
        shortest.attention_mask += [0] * self.image_tokens
        shortest.labels += [IGNORED] * self.image_tokens
        size = self.processor.image_processor.size
        side = size["shortest_edge"] or size["height"]
        return Image.new("RGB", (side, side))

    def _pad(self, encoded: list[_Row]) -> dict[str, torch.Tensor]:
        length = max(len(row.input_ids) for row in encoded)

        def stack(lists: list[list[int]], filler: int) -> torch.Tensor:
            return torch.tensor([values + [filler] * (length - len(values)) for values in lists])

        pad = self.processor.tokenizer.pad_token_id
        return {
            "input_ids": stack([row.input_ids for row in encoded], pad),
            "attention_mask": stack([row.attention_mask for row in encoded], 0),
            "labels": stack([row.labels for row in encoded], IGNORED),
        }


def _open_picture(row: Conversation) -> Image.Image:
    try:
        return load_image(str(row.image))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ConversationError(
            f"{row.source}: the image {row.image} cannot be decoded ({error}): replace the file or "
            "remove the row"
        ) from error


def _supervised_positions(labels: torch.Tensor) -> dict[str, torch.Tensor]:
    """labels [B, T] -> logits_to_keep [K], shift_labels [B, K]: position t predicts token t + 1."""
    targets = labels[:, 1:]
    kept = (targets != IGNORED).any(0).nonzero().squeeze(1)
    return {"logits_to_keep": kept, "shift_labels": targets[:, kept]}
