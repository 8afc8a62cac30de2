"""Words by NLTK's own models, as AMBER's and OPERA's scripts take them.

The models are data that `python -m nltk.downloader` fetches; no Python package brings them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from nltk import pos_tag, word_tokenize
from nltk.stem import WordNetLemmatizer

DATA = ("punkt_tab", "averaged_perceptron_tagger_eng", "wordnet")
# OPERA's get_wordnet_pos: the first letter of a Penn tag, and a noun where none is known.
_PARTS_OF_SPEECH = {"J": "a", "V": "v", "N": "n", "R": "r"}
_LEMMATIZER = WordNetLemmatizer()


@contextmanager
def nltk_data() -> Iterator[None]:
    """Turns NLTK's page about missing data into one sentence.

    Raises:
        ValueError: the data are not on this machine.
    """
    try:
        yield
    except LookupError as error:
        raise ValueError(
            f"this rule reads captions with NLTK's {', '.join(DATA)}, and not all of them are "
            f"here; get them with: python -m nltk.downloader {' '.join(DATA)}"
        ) from error


def nouns(text: str) -> list[str]:
    """AMBER's extract_nouns: lemmas of the words tagged as nouns, in the case they stand in."""
    with nltk_data():
        tagged = pos_tag(word_tokenize(text))
        return [_LEMMATIZER.lemmatize(word) for word, tag in tagged if tag.startswith("NN")]


def lemmas(text: str) -> list[str]:
    """OPERA's words: every token in lower case, as the lemma of its part of speech."""
    with nltk_data():
        tagged = pos_tag(word_tokenize(text.lower()))
        return [
            _LEMMATIZER.lemmatize(word, _PARTS_OF_SPEECH.get(tag[:1], "n")) for word, tag in tagged
        ]
