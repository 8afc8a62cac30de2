"""Which COCO objects a caption mentions, by the rule of CHAIR's own script (utils/chair.py)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
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


def double_words(kept: Iterable[str]) -> dict[str, str]:
    """Two words that are read as one -> what they are read as; `kept` stand for themselves."""
    pairs = {word: word for word in kept}
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


_DOUBLE_WORDS = double_words(_KEPT)


def singular_words(caption: str) -> list[str]:
    """The original's words: all tokens in lower case and singular, verbs too."""
    return [singular(token) for token in tokens(caption.lower())]


class ObjectReader:
    """Reads object mentions with one table of synonyms."""

    def __init__(
        self,
        node_of: Mapping[str, str],
        words_of: Callable[[str], list[str]],
        doubles: Mapping[str, str] = _DOUBLE_WORDS,
    ) -> None:
        """
        Args:
            node_of: a word as captions say it -> the object's name.
            words_of: a caption's words in their base form.
            doubles: two words that are read as one -> what they are read as.
        """
        self._node_of = node_of
        self._words_of = words_of
        self._doubles = doubles

    @classmethod
    def from_file(
        cls, path: Path, words_of: Callable[[str], list[str]] = singular_words
    ) -> ObjectReader:
        """Read synonyms.txt: one object a line, its name first, split on comma and blank.

        Quirks of the file are kept as everybody keeps them: entries with a leading blank or a
        capital never match.
        """
        return cls(nodes_of_file(path), words_of)

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
        return [node for _, node in self.known([w for w, _ in self.pairs(self._words_of(caption))])]

    def pairs(self, words: Sequence[str]) -> list[tuple[str, bool]]:
        """Words with the double words put together, from left to right; True for these."""
        merged: list[tuple[str, bool]] = []
        position = 0
        while position < len(words):
            double = self._doubles.get(" ".join(words[position : position + 2]))
            merged.append((words[position], False) if double is None else (double, True))
            position += 1 if double is None else 2
        return merged

    def known(self, words: Sequence[str]) -> list[tuple[str, str]]:
        """(word, object) for the words of the table; the toilet's seat is no chair."""
        kept = [word for word in words if word != "seat" or "toilet" not in words]
        return [(word, self._node_of[word]) for word in kept if word in self._node_of]


def nodes_of_file(path: Path) -> dict[str, str]:
    """A table of synonyms as its file has it: each word -> the first of its line."""
    nodes: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        words = line.strip().split(", ")
        nodes |= {word: words[0] for word in words}
    return nodes
