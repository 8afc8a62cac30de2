"""Captions to token ids, no longer than a batch needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from open_clip.tokenizer import HFTokenizer, SigLipTokenizer, SimpleTokenizer
from open_clip.transformer import TextTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from vision_tower.rotary_text import RotaryTextEncoder, end_of

LONGEST = 2048
GROUPS = 4  # of texts of like length; more save less than a call of each costs
OpenClipTokenizer = SimpleTokenizer | HFTokenizer | SigLipTokenizer


class Tokenizer:
    """Captions to token ids [B, L], cut at `context_length` and trimmed to the longest of them.

    Trimming changes no feature: attention is causal and pooling is at the end token. Text encoders
    of another kind get every batch at full length.
    """

    def __init__(self, tokenize: OpenClipTokenizer, text: Any) -> None:
        self._tokenize = tokenize
        self.context_length: int = text.context_length
        self.groups = GROUPS
        self._trims = is_plainly_causal(text)
        if self._trims:
            self._pool_type, self._eos_id = text.pool_type, text.eos_id

    def __call__(self, captions: list[str]) -> Int[Tensor, "B L"]:
        return self.trimmed(self._tokenize(captions, context_length=self.context_length))

    def by_length(
        self, token_BL: Int[Tensor, "B L"]
    ) -> list[tuple[Int[Tensor, " _"], Int[Tensor, "_ _"]]]:
        """(rows, their tokens) of at most `groups` groups of like size, each of captions of like
        length, so that few are padded to a much longer one; one group where nothing can be cut."""
        if not self._trims or self.groups == 1:
            return [(torch.arange(len(token_BL), device=token_BL.device), token_BL)]
        order = self._ends(token_BL).argsort()
        return [(rows, self.trimmed(token_BL[rows])) for rows in order.chunk(self.groups)]

    def trimmed(self, token_BL: Int[Tensor, "B L"]) -> Int[Tensor, "B L2"]:
        """Without what follows the longest caption."""
        if not self._trims:
            return token_BL
        return token_BL[:, : int(self._ends(token_BL).max()) + 1]

    def _ends(self, token_BL: Int[Tensor, "B L"]) -> Int[Tensor, " B"]:
        return end_of(token_BL, self._pool_type, self._eos_id)

    def length(self, caption: str) -> int:
        """Tokens of a caption that is not cut, start and end included; at most `LONGEST`."""
        [tokens] = self._tokenize([caption], context_length=LONGEST)
        words = (tokens != tokens[-1]).nonzero()  # all but the padding, which SigLIP's end token is
        end = int(words[-1]) + 1 if len(words) else 0
        return end if self._trims else min(end + 1, LONGEST)

    def padded(self, token_BL: Int[Tensor, "B L"]) -> Int[Tensor, "B L2"]:
        """Ids of captions that another tokenizer of the same words cut, as this one would hand them
        on: an encoder that looks at the padding must see as much of it as it always does."""
        if self._trims:
            return token_BL
        [[pad]] = self._tokenize([""], context_length=self.context_length)[:, -1:].tolist()
        return F.pad(token_BL, (0, self.context_length - token_BL.shape[1]), value=pad)

    def save(self, directory: Path) -> None:
        """open_clip's own BPE needs no file."""
        if isinstance(self._tokenize, HFTokenizer):
            self._tokenize.save_pretrained(directory)


def is_plainly_causal(text: nn.Module) -> bool:
    """Whether what follows a caption's end token can be cut off: it is never looked at."""
    if isinstance(text, RotaryTextEncoder):
        return text.causal
    causal = isinstance(text, TextTransformer) and text.attn_mask is not None
    return causal and text.cls_emb is None and text.pool_type in ("argmax", "eos")
