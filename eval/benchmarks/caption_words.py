"""A caption's sentences, tokens and singulars without data that pip does not install."""

from __future__ import annotations

import re
from functools import lru_cache

from nltk.tokenize import NLTKWordTokenizer
from textblob.en.inflect import singularize

# The official scripts call nltk.word_tokenize: Punkt sentences, then this tokenizer, which parts a
# final full stop from its word at the end of a sentence only. Punkt's data is no Python package,
# and where sentences end matters for nothing else, so they are split by rule: at blanks after
# . ? !, also with a closing quote or bracket between.
_SENTENCE_END = re.compile(r"(?<=[.?!])\s+|(?<=[.?!][\"')\]”])\s+")
_TOKENIZER = NLTKWordTokenizer()

# textblob's rules are a port of the CLiPS pattern ones that CHAIR's script imports.
singular = lru_cache(maxsize=100_000)(singularize)


def sentences(text: str) -> list[list[str]]:
    """The tokens of each sentence."""
    return [_TOKENIZER.tokenize(sentence) for sentence in _SENTENCE_END.split(text)]
