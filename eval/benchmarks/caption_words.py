"""A caption's tokens and singulars without data that pip does not install."""

from __future__ import annotations

import re
from functools import lru_cache

from nltk.tokenize import NLTKWordTokenizer
from textblob.en.inflect import singularize

# The official scripts call nltk.word_tokenize: Punkt sentences, then this tokenizer, which parts a
# final full stop from its word at the end of its text only. Punkt's data is no Python package,
# and where sentences end matters for nothing else, so full stops are parted by rule: before
# blanks, also with a closing quote or bracket between.
_FULL_STOP = re.compile(r"(?<=[^.])\.(?=[\"')\]”]?\s)")
_TOKENIZER = NLTKWordTokenizer()

# textblob's rules are a port of the CLiPS pattern ones that CHAIR's script imports.
singular = lru_cache(maxsize=100_000)(singularize)


def tokens(text: str) -> list[str]:
    """Words and punctuation in order, in the case they stand in."""
    return _TOKENIZER.tokenize(_FULL_STOP.sub(" . ", text))
