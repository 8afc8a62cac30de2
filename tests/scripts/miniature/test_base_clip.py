"""The base CLIP's tokenizer."""

from __future__ import annotations

import random

from scripts.miniature.base_clip import clip_tokenizer


def test_clips_tokenizer_ends_with_its_highest_id() -> None:
    """The text encoder pools where the id is highest, as OpenAI's does."""
    tokenizer = clip_tokenizer(random.Random(0))
    ids = tokenizer("A Red circle, on sand.").input_ids
    assert ids[-1] == max(tokenizer.get_vocab().values()) == tokenizer.eos_token_id
    assert ids[0] == tokenizer.bos_token_id
    written = "".join(tokenizer.convert_ids_to_tokens(ids[1:-1])).replace("Ġ", " ")
    assert written == " a red circle, on sand."
