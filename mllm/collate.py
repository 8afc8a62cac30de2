"""From conversations to a batch: one tokenisation, labels from the template's own generation spans.

Shapes: T tokens, K kept positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jinja2.exceptions import TemplateError
from PIL import Image
from transformers import LlavaProcessor

from mllm.conversations import Conversation, ConversationError
from mllm.packs import OpenedRow
from mllm.template import IMAGE_TOKEN

IGNORED = -100


class Encoded(NamedTuple):
    """One tokenised conversation, placeholders expanded; as many labels as ids."""

    input_ids: list[int]
    labels: list[int]


class Collator:
    """Turns packs of rows into the arguments of `LlavaForConditionalGeneration.forward`, and
    `row_ids` for the trainer's messages.

    All rows of a batch stand end to end in one sequence, and nothing is padded. Positions begin
    anew at each row: without a mask transformers' models read that as rows which do not see each
    other. `row_lengths` says the same to `mllm.row_attention`. The blank picture of a batch that
    has none is a row of its own.

    Besides the usual tensors [1, T] a batch holds `logits_to_keep` [K], the positions that predict
    a supervised token, and `shift_labels` [1, K], what they predict: the vocabulary-sized logits
    are computed there alone. Trainer counts `shift_labels` for its normalisation, so the loss is
    the mean over the supervised tokens of the global batch.
    """

    def __init__(self, processor: LlavaProcessor, image_tokens: int, max_length: int) -> None:
        """
        Args:
            processor: of the checkpoint that is trained.
            image_tokens: placeholders per picture, see `mllm.processor.image_token_count`.
            max_length: tokens a row may have, pictures included; longer rows lose their end.
        """
        self.processor = processor
        self.image_tokens = image_tokens
        self.max_length = max_length
        tokens = processor.tokenizer.added_tokens_decoder.values()
        # A placeholder is one where the row has pictures, and refused where it has none.
        places = (IMAGE_TOKEN, processor.image_token)
        self._special = [
            token.content for token in tokens if token.special and token.content not in places
        ]

    def __call__(self, packs: Sequence[Sequence[OpenedRow]]) -> dict[str, Any]:
        rows = [row for pack in packs for row in pack]
        encoded = self.encode([row.conversation for row in rows])
        pictures = [picture for row in rows for picture in row.pictures]
        if not pictures:
            blank, picture = self._blank()
            encoded, pictures = [*encoded, blank], [picture]
        images = self.processor.image_processor(images=pictures, return_tensors="pt")
        return {
            **_laid_out(encoded),
            "pixel_values": images["pixel_values"],
            # The model would fill a key-value cache in training too, for nobody, and with one it
            # would let the rows see each other.
            "use_cache": False,
            "row_ids": [row.conversation.source for row in rows],
        }

    def encode(self, rows: Sequence[Conversation]) -> list[Encoded]:
        """Tokenise rows. The placeholder is expanded afterwards: it is one special token that
        merges with nothing, so this equals tokenising 576 of them and costs nothing.

        Raises ConversationError for a row of which nothing can be learned, or that the template
        has no place for.
        """
        return [self._encode(row) for row in rows]

    def _encode(self, row: Conversation) -> Encoded:
        self._require_plain(row)
        try:
            tokens = self.processor.tokenizer.apply_chat_template(
                row.messages,
                tokenize=True,
                return_dict=True,
                return_assistant_tokens_mask=True,
            )
        except TemplateError as error:  # Gemma 2's takes no system sentence, for one
            raise ConversationError(
                f"{row.source}: the language model's chat template refuses the row ({error}): mend "
                "or remove it"
            ) from error
        return self._expand(row, tokens["input_ids"], tokens["assistant_masks"])

    def _require_plain(self, row: Conversation) -> None:
        """Texts without special tokens: an end in the midst of an answer would be learned."""
        for message in row.messages:
            content = message["content"]
            parts = [content] if isinstance(content, str) else [i.get("text", "") for i in content]
            for token in self._special:
                if any(token in part for part in parts):
                    raise ConversationError(
                        f"{row.source}: the text itself holds {token!r}, a special token of the "
                        "language model: take it out"
                    )

    def _expand(self, row: Conversation, ids: list[int], spoken: list[int]) -> Encoded:
        labels = [token if said else IGNORED for token, said in zip(ids, spoken, strict=True)]
        image_id = self.processor.image_token_id
        if ids.count(image_id) != len(row.pictures):
            raise ConversationError(
                f"{row.source}: the text itself holds {self.processor.image_token!r}, which stands "
                "for a picture here: take it out"
            )
        wide_ids, wide_labels = [], []
        for token, label in zip(ids, labels, strict=True):
            width = self.image_tokens if token == image_id else 1
            if token == image_id and len(wide_ids) + width > self.max_length:
                raise ConversationError(
                    f"{row.source}: max_length={self.max_length} cuts into a picture's "
                    f"{self.image_tokens} tokens: raise max_length"
                )
            wide_ids += [token] * width
            wide_labels += [label] * width
        told = Encoded(wide_ids[: self.max_length], wide_labels[: self.max_length])
        if all(label == IGNORED for label in told.labels):
            raise ConversationError(
                f"{row.source}: nothing is left to learn within max_length={self.max_length}: "
                "raise max_length or shorten the first question"
            )
        return told

    def _blank(self) -> tuple[Encoded, Image.Image]:
        """A blank picture, and a row that is nothing else, unlabelled.

        With it every rank runs tower and projector once per batch, whatever its rows are: under
        ZeRO-3 a rank that skipped them would wait for ever (DeepSpeed #7170), and with only the
        projector trainable the loss would have no gradient. No row sees it, so the loss is the
        same to the last bit.
        """
        tokens = [self.processor.image_token_id] * self.image_tokens
        size = self.processor.image_processor.size
        side = size["shortest_edge"] or size["height"]
        return Encoded(tokens, [IGNORED] * self.image_tokens), Image.new("RGB", (side, side))


def _laid_out(rows: Sequence[Encoded]) -> dict[str, Any]:
    labels = torch.tensor([[label for row in rows for label in row.labels]])
    targets = labels[:, 1:]  # position t predicts token t + 1
    kept = (targets != IGNORED)[0].nonzero().squeeze(1)
    return {
        "input_ids": torch.tensor([[token for row in rows for token in row.input_ids]]),
        "position_ids": torch.tensor([[at for row in rows for at in range(len(row.labels))]]),
        "row_lengths": [len(row.labels) for row in rows],
        "labels": labels,
        "logits_to_keep": kept,
        "shift_labels": targets[:, kept],
    }
