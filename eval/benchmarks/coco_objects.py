"""Which COCO objects a caption mentions, by the rule of CHAIR's own script (utils/chair.py)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from nltk.tokenize import NLTKWordTokenizer
from textblob.en.inflect import singularize

# The original tokenises with nltk.word_tokenize: Punkt sentences, then this tokenizer, which
# parts a final full stop from its word at the end of a sentence only. Punkt's data is no Python
# package, and where sentences end matters for nothing else here, so they are split by rule:
# at blanks after . ? !, also with a closing quote or bracket between.
_SENTENCE_END = re.compile(r"(?<=[.?!])\s+|(?<=[.?!][\"')\]”])\s+")
_TOKENIZER = NLTKWordTokenizer()

_KEPT = (
    "motor bike",
    "motor cycle",
    "air plane",
    "traffic light",
    "street light",
    "traffic signal",
    "stop light",
    "fire hydrant",
    "stop sign",
    "parking meter",
    "suit case",
    "sports ball",
    "baseball bat",
    "baseball glove",
    "tennis racket",
    "wine glass",
    "hot dog",
    "cell phone",
    "mobile phone",
    "teddy bear",
    "hair drier",
    "potted plant",
    "laptop computer",
    "stove top oven",
    "home plate",
    "train track",
)
_ANIMALS = ("bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe")
_ANIMALS += ("animal", "cub")


def _double_words() -> dict[str, str]:
    pairs = {word: word for word in _KEPT}
    for animal in _ANIMALS:
        pairs |= {f"baby {animal}": animal, f"adult {animal}": animal}
    # textblob, like CLiPS pattern, makes "glas" of "glass".
    return pairs | {
        "passenger jet": "jet",
        "passenger train": "train",
        "bow tie": "tie",
        "toilet seat": "toilet",
        "wine glas": "wine glass",
    }


_DOUBLE_WORDS = _double_words()
# textblob's rules are a port of the CLiPS pattern ones that the original imports.
_singular = lru_cache(maxsize=100_000)(singularize)


def _tokens(caption: str) -> list[str]:
    return [
        _singular(token)
        for sentence in _SENTENCE_END.split(caption.lower())
        for token in _TOKENIZER.tokenize(sentence)
    ]


def _merged(tokens: list[str]) -> list[str]:
    """Tokens with the listed double words put together, from left to right."""
    merged: list[str] = []
    position = 0
    while position < len(tokens):
        double = _DOUBLE_WORDS.get(" ".join(tokens[position : position + 2]))
        merged.append(tokens[position] if double is None else double)
        position += 1 if double is None else 2
    return merged


class ObjectReader:
    """Reads object mentions with one table of synonyms."""

    def __init__(self, node_of: Mapping[str, str]) -> None:
        """`node_of`: a word as captions say it -> the object's name."""
        self._node_of = node_of

    @classmethod
    def from_file(cls, path: Path) -> ObjectReader:
        """Read synonyms.txt: one object a line, its name first, split on comma and blank.

        Quirks of the file are kept as everybody keeps them: entries with a leading blank or a
        capital never match.
        """
        node_of: dict[str, str] = {}
        for line in path.read_text(encoding="utf-8").splitlines():
            words = line.strip().split(", ")
            node_of |= {word: words[0] for word in words}
        return cls(node_of)

    def node(self, word: str) -> str:
        """The object that a category's name stands for.

        Raises:
            ValueError: the table does not have it.
        """
        if word not in self._node_of:
            raise ValueError(f"synonyms.txt has no line for the category {word!r}; add one.")
        return self._node_of[word]

    def mentions(self, caption: str) -> list[str]:
        """Objects in order of mention, each as often as it is mentioned."""
        words = _merged(_tokens(caption))
        if "toilet" in words:
            words = [word for word in words if word != "seat"]
        return [self._node_of[word] for word in words if word in self._node_of]
