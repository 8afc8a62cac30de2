"""What an AMBER caption invents, covers and imagines, by the rule of AMBER's inference.py.

Which words are nouns and which words are near each other is a `WordRule`: the official one needs
models that pip does not install, the other one does without them and has a name of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Protocol

from textblob.en import parser

from eval.benchmarks import nltk_words
from eval.benchmarks.caption_words import singular, tokens

SIMILAR = 0.8  # inference.py's --similarity_score; near is what lies above it


class WordRule(Protocol):
    """How words are read."""

    @property
    def identity(self) -> str:
        """What a result says about the rule."""
        ...

    def require(self) -> None:
        """Raises ValueError where a model that it reads with is missing."""
        ...

    def nouns(self, caption: str, vocabulary: Collection[str]) -> list[str]:
        """The caption's nouns, singular, in order; words outside the vocabulary may be there."""
        ...

    def similarity(self, one: str, other: str) -> float: ...


@dataclass(frozen=True)
class ExactWords:
    """Nothing to download: textblob's tagger and singulars; words are near if they are the same.

    The vocabulary decides what is a singular already ("glass", "people"). As WordNet's lemmas do,
    words with a capital stay as they are.
    """

    identity: str = "exact match, no word vectors, textblob's nouns"

    def require(self) -> None:
        """Everything comes with the package."""

    def nouns(self, caption: str, vocabulary: Collection[str]) -> list[str]:
        return [
            word if word in vocabulary or not word.islower() else singular(word)
            for word, tag in parser.find_tags(tokens(caption))
            if tag.startswith("NN")
        ]

    def similarity(self, one: str, other: str) -> float:
        return float(one == other)


@dataclass(frozen=True)
class OfficialWords:
    """NLTK's nouns and spaCy's vectors, as inference.py has them.

    `vectors` names the spaCy model; another one makes other scores.
    """

    vectors: str = "en_core_web_lg"

    @property
    def identity(self) -> str:
        try:
            return f"NLTK's nouns, {self.vectors} {version(self.vectors)}"
        except PackageNotFoundError:
            return f"NLTK's nouns, {self.vectors}"

    def require(self) -> None:
        nltk_words.nouns("A word.")
        _documents(self.vectors)

    def nouns(self, caption: str, vocabulary: Collection[str]) -> list[str]:
        return nltk_words.nouns(caption)

    def similarity(self, one: str, other: str) -> float:
        return _cosine(self.vectors, one, other)


class _Vectored(Protocol):
    """What is used of spaCy's Doc."""

    @property
    def vector_norm(self) -> float: ...

    def similarity(self, other: _Vectored) -> float: ...


@lru_cache(maxsize=1)
def _documents(vectors: str) -> Callable[[str], _Vectored]:
    """Tokens with their vectors; what else the script's pipeline does changes no vector."""
    try:
        return import_module("spacy").load(vectors).make_doc
    except (ImportError, OSError) as error:
        raise ValueError(
            f"this rule compares words with spaCy's {vectors}, which is not here; get it with: "
            f"pip install spacy && python -m spacy download {vectors}; or take --benchmark amber, "
            "which does without"
        ) from error


@lru_cache(maxsize=1_000_000)
def _cosine(vectors: str, one: str, other: str) -> float:
    """Doc.similarity without its warnings: same words are 1, words without a vector 0."""
    if one == other:
        return 1.0
    document = _documents(vectors)
    left, right = document(one), document(other)
    return float(left.similarity(right)) if left.vector_norm and right.vector_norm else 0.0


@dataclass(frozen=True)
class Reading:
    """What a caption says: kept nouns, those of them that are invented, and how many of the
    picture's true and of its imagined things it names."""

    nouns: int
    invented: tuple[str, ...]
    covered: int
    imagined: int


class CaptionReader:
    """Reads captions with AMBER's tables."""

    def __init__(
        self,
        words: WordRule,
        relation: Mapping[str, Sequence[str]],
        safe_words: Collection[str],
    ) -> None:
        """`relation`: a thing -> words that stand for it too. Safe words are never invented."""
        self._words = words
        self._relation = relation
        self._safe_words = frozenset(safe_words)
        near = (word for words in relation.values() for word in words)
        self._vocabulary = frozenset([*relation, *near])

    def read(self, caption: str, truth: Sequence[str], hallu: Sequence[str]) -> Reading:
        """`truth`: things in the picture; `hallu`: things that are easily imagined in it."""
        nouns = Counter(
            noun
            for noun in self._words.nouns(caption, self._vocabulary)
            if noun in self._vocabulary
        )
        true, imaginable = self._targets(truth), self._targets(hallu)
        covered: set[int] = set()
        imagined: set[int] = set()
        invented: list[str] = []
        for noun, times in nouns.items():
            if noun in self._safe_words:
                continue
            named = _first(true, noun.__eq__)
            if named is None:
                # Two looks, as in the script: the word itself, and the first word near it.
                looks = (_first(imaginable, noun.__eq__), self._near(imaginable, noun))
                imagined |= {place for place in looks if place is not None}
                named = self._near(true, noun)
            if named is None:
                invented += [noun] * times
            else:
                covered.add(named)
        return Reading(nouns.total(), tuple(invented), len(covered), len(imagined))

    def _targets(self, things: Sequence[str]) -> list[tuple[str, int]]:
        """Words and the place of the thing that each stands for; other words than its own first."""
        near = [(word, i) for i, thing in enumerate(things) for word in self._relation[thing]]
        return near + [(thing, i) for i, thing in enumerate(things)]

    def _near(self, targets: Sequence[tuple[str, int]], noun: str) -> int | None:
        return _first(targets, lambda word: self._words.similarity(noun, word) > SIMILAR)


def _first(targets: Sequence[tuple[str, int]], matches: Callable[[str], bool]) -> int | None:
    """Place of the thing whose word matches first."""
    return next((place for word, place in targets if matches(word)), None)
