"""Which COCO objects a list of names stands for, by the rule of Object HalBench's own script
(RLHF-V, eval/eval_gpt_obj_halbench.py), without spaCy and WordNet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import TypeAlias

from textblob.en import tag

from eval.benchmarks.caption_words import singular, tokens
from eval.benchmarks.coco_objects import ObjectReader, double_words, nodes_of_file

Phrase: TypeAlias = Sequence[tuple[str, bool]]
"""Words of an object's name in order: each in its base form, and whether it is a noun."""


def tagged(name: str) -> Phrase:
    """Words and parts of speech of an object's name, by textblob's lexicon.

    The original has them from spaCy's en_core_web_trf, which is no Python package. A name of one
    word is a noun, whatever the lexicon makes of it ("orange").
    """
    words = [(_lemma(word.lower(), part), part[:2] == "NN") for word, part in tag(f"a {name}")]
    return [(words[1][0], True)] if len(words) == 2 else words


def _lemma(word: str, part: str) -> str:
    """The lexicon's guess at unknown words takes "minibus" for a plural."""
    plural = part in ("NNS", "NNPS") and not word.endswith(("us", "ss"))
    return singular(word) if plural else word


def refined_reader(path: Path) -> ObjectReader:
    """Read synonyms_refine.txt: its entries of two words are double words.

    In captions the original's WordNet lemmatiser leaves "bus" and "tennis" alone, which the rules
    of `singular` cut short; so the table's own words are left as they are.
    """
    node_of = {word.strip(): node.strip() for word, node in nodes_of_file(path).items()}
    kept = frozenset(" ".join(node_of).split())

    def words_of(caption: str) -> list[str]:
        return [word if word in kept else singular(word) for word in tokens(caption.lower())]

    doubled = [word for word in node_of if " " in word]
    return ObjectReader(node_of, words_of, double_words([*doubled, "home plate", "train track"]))


def named_objects(
    reader: ObjectReader, names: Iterable[str], tagger: Callable[[str], Phrase] = tagged
) -> list[tuple[str, str]]:
    """(word, object) for each name of a list of objects; a word counts once.

    Of a name count its double words; where it has none, its runs of nouns, each as one word.
    """
    words: list[str] = []
    for name in names:
        phrase = tagger(name)
        doubles = [word for word, double in reader.pairs([w for w, _ in phrase]) if double]
        words += doubles or _noun_runs(phrase)
    return reader.known(list(dict.fromkeys(words)))


def _noun_runs(phrase: Phrase) -> list[str]:
    return [
        " ".join(word for word, _ in run)
        for noun, run in groupby(phrase, key=lambda part: part[1])
        if noun
    ]
