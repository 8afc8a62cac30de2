"""Which COCO objects a caption mentions, by the rule of CHAIR's own script (utils/chair.py)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from eval.benchmarks.caption_words import singular, tokens

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


def _merged(tokens: list[str]) -> list[str]:
    """Tokens with the listed double words put together, from left to right."""
    merged: list[str] = []
    position = 0
    while position < len(tokens):
        double = _DOUBLE_WORDS.get(" ".join(tokens[position : position + 2]))
        merged.append(tokens[position] if double is None else double)
        position += 1 if double is None else 2
    return merged


def singular_words(caption: str) -> list[str]:
    """The original's words: all tokens in lower case and singular, verbs too."""
    return [singular(token) for token in tokens(caption.lower())]


class ObjectReader:
    """Reads object mentions with one table of synonyms."""

    def __init__(self, node_of: Mapping[str, str], words_of: Callable[[str], list[str]]) -> None:
        """`node_of`: a word as captions say it -> the object's name. `words_of`: a caption's
        words in their base form."""
        self._node_of = node_of
        self._words_of = words_of

    @classmethod
    def from_file(
        cls, path: Path, words_of: Callable[[str], list[str]] = singular_words
    ) -> ObjectReader:
        """Read synonyms.txt: one object a line, its name first, split on comma and blank.

        Quirks of the file are kept as everybody keeps them: entries with a leading blank or a
        capital never match.
        """
        node_of: dict[str, str] = {}
        for line in path.read_text(encoding="utf-8").splitlines():
            words = line.strip().split(", ")
            node_of |= {word: words[0] for word in words}
        return cls(node_of, words_of)

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
        words = _merged(self._words_of(caption))
        if "toilet" in words:
            words = [word for word in words if word != "seat"]
        return [self._node_of[word] for word in words if word in self._node_of]
