"""Questions about one picture: what their prompts share is computed once.

A LLaVA's prompt is an opening, a picture and a question. Tower, projector and language model go
over opening and picture once; the keys and values they leave are repeated for the picture's
questions, which add their own few tokens. Every token sees what it would see in a prompt alone, at
the same positions, so the answers are those of the plain way.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, cast

import torch
from PIL import Image
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from mllm.answerer import Answerer, Question, question_message


class PrefixAnswerer(Answerer):
    """A LLaVA that answers questions, with or without a picture, and looks at a picture once.

    Questions are about one picture if theirs is the same object.
    """

    # A picture may have more questions than one batch holds.
    _last: tuple[Image.Image, Tensor, DynamicCache] | None = None

    def answer_batch(self, pairs: Sequence[Question], *, max_new_tokens: int = 256) -> list[str]:
        answers: dict[int, str] = {}
        rows = [row for row, (image, _) in enumerate(pairs) if image is not None]
        seen = cast("list[tuple[Image.Image, str]]", [pairs[row] for row in rows])
        said = self._answer_by_picture(seen, max_new_tokens) if seen else None
        if said is not None:
            answers.update(zip(rows, said, strict=True))
        rest = [row for row in range(len(pairs)) if row not in answers]
        if rest:
            said = super().answer_batch([pairs[row] for row in rest], max_new_tokens=max_new_tokens)
            answers.update(zip(rest, said, strict=True))
        return [answers[row] for row in range(len(pairs))]

    @torch.inference_mode()
    def _answer_by_picture(
        self, pairs: Sequence[tuple[Image.Image, str]], max_new_tokens: int
    ) -> list[str] | None:
        """None where prompts share nothing, or the language model's cache cannot be shared."""
        after = self._after_picture(["", *(text for _, text in pairs)])
        if after is None:
            return None
        closing, *asked = after
        padded = self.tokenizer.pad({"input_ids": asked}, return_tensors="pt")
        questions = padded.to(self.model.device)
        pictures = {id(image): image for image, _ in pairs}
        room = questions["input_ids"].shape[1] + max_new_tokens
        prefixes = self._prefixes(list(pictures.values()), closing, room)
        if prefixes is None:
            return None
        prefix_PL, cache = prefixes
        if len(pictures) < len(pairs):
            places = {picture: place for place, picture in enumerate(pictures)}
            chosen = [places[id(image)] for image, _ in pairs]
            cache.batch_select_indices(torch.tensor(chosen, device=self.model.device))
        prefix_BL = prefix_PL[:1].expand(len(pairs), -1)
        # The questions are padded on the left: between the pictures and themselves.
        inputs = {
            "input_ids": torch.cat([prefix_BL, questions["input_ids"]], dim=1),
            "attention_mask": torch.cat(
                [torch.ones_like(prefix_BL), questions["attention_mask"]], dim=1
            ),
        }
        texts = [text for _, text in pairs]
        return self._said(texts, inputs, max_new_tokens=max_new_tokens, past_key_values=cache)

    def _after_picture(self, texts: Sequence[str]) -> list[list[int]] | None:
        """Tokens of what stands after the picture, text by text; None if the prompts differ before
        it, or it is not there once."""
        bare = {"type": "image"}
        prompts = self.processor.apply_chat_template(
            [
                [{"role": "user", "content": [bare, {"type": "text", "text": text}]}]
                for text in texts
            ],
            add_generation_prompt=True,
        )
        image_token = self.processor.image_token
        if len({prompt.partition(image_token)[0] for prompt in prompts}) > 1 or any(
            prompt.count(image_token) != 1 for prompt in prompts
        ):
            return None
        # Cut after tokenising: some tokenizers write the first word of a text in another way.
        ids = cast("Any", self.tokenizer(prompts, add_special_tokens=False)["input_ids"])
        return [row[row.index(self.processor.image_token_id) + 1 :] for row in ids]

    def _prefixes(
        self, pictures: list[Image.Image], closing: list[int], room: int
    ) -> tuple[Tensor, DynamicCache] | None:
        """Tokens [P, L] up to the end of each picture, all rows alike, and a cache that has gone
        over them; None, too, if the processor writes after the picture what the template does not
        have (Pixtral's does).

        Args:
            closing: tokens that follow a picture to which there is no question.
            room: tokens that are still to come.
        """
        if self._last is not None and len(pictures) == 1 and pictures[0] is self._last[0]:
            _, prefix_PL, cache = self._last
            return (prefix_PL, copy.deepcopy(cache)) if _holds(cache, prefix_PL, room) else None
        inputs = self._inputs([[question_message(picture, "")] for picture in pictures])
        is_image = inputs["input_ids"][0] == self.processor.image_token_id
        end = int(is_image.nonzero()[-1]) + 1
        if inputs["input_ids"][:, end:].tolist() != [closing] * len(pictures):
            return None
        cut = {name: inputs[name][:, :end] for name in ("input_ids", "attention_mask")}
        prefix_PL, cache = cut["input_ids"], DynamicCache(config=self.model.config)
        if not ((prefix_PL == prefix_PL[0]).all() and _holds(cache, prefix_PL, room)):
            return None
        self.model(**{**inputs, **cut}, past_key_values=cache, use_cache=True, logits_to_keep=1)
        if len(pictures) == 1:
            self._last = (pictures[0], prefix_PL, copy.deepcopy(cache))
        return prefix_PL, cache


def _holds(cache: DynamicCache, prefix_PL: Tensor, room: int) -> bool:
    """Whether every token sees all before it to the end: then what pads the questions is masked and
    no more, and takes no token's place in a sliding window or a recurrent state."""
    width = prefix_PL.shape[1] + room
    return all(
        type(layer) is DynamicLayer
        or (type(layer) is DynamicSlidingWindowLayer and width <= layer.sliding_window)
        for layer in cache.layers
    )
