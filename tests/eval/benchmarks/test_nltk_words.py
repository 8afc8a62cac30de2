"""Words by NLTK's models, with models of a few words in NLTK's own files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
TAGS = {"Two": "CD", "two": "CD", "men": "NNS", "Dogs": "NNS", "dogs": "NNS", "can": "MD"}
TAGS |= {"running": "VBG", "see": "VB", "the": "DT", "wooden": "JJ", ".": ".", "racks": "NNS"}


@pytest.fixture
def nltk_data(tmp_path: Path) -> Path:
    """punkt_tab without abbreviations, a tagger that knows TAGS, a WordNet of five words."""
    root = tmp_path / "nltk_data"
    punkt = root / "tokenizers/punkt_tab/english"
    tagger = root / "taggers/averaged_perceptron_tagger_eng"
    wordnet = root / "corpora/wordnet"
    for folder in (punkt, tagger, wordnet):
        folder.mkdir(parents=True)
    for name in ("collocations.tab", "sent_starters.txt", "abbrev_types.txt", "ortho_context.tab"):
        (punkt / name).write_text("")
    for name, value in (("weights", {}), ("tagdict", TAGS), ("classes", sorted(TAGS.values()))):
        path = tagger / f"averaged_perceptron_tagger_eng.{name}.json"
        path.write_text(json.dumps(value))
    (wordnet / "lexnames").write_text("00\tnoun.Tops\t1\n")
    (wordnet / "index.sense").write_text("")
    nouns, verbs = ("dog", "man", "rack", "running"), ("run",)
    for part, words in (("noun", nouns), ("verb", verbs), ("adj", ()), ("adv", ())):
        lines = [f"{word} {part[0]} 1 0 1 0 00000001\n" for word in words]
        (wordnet / f"index.{part}").write_text("".join(lines))
        (wordnet / f"data.{part}").write_text("  1 WordNet 3.0 Copyright\n")
        (wordnet / f"{part}.exc").write_text("")
    (wordnet / "noun.exc").write_text("men man\n")
    (wordnet / "verb.exc").write_text("running run\n")
    return root


def python(data: Path, code: str) -> str:
    """Runs in a process of its own: NLTK keeps the models that it has opened."""
    environment = os.environ | {"NLTK_DATA": str(data), "HOME": str(data)}
    done = subprocess.run(
        [sys.executable, "-c", f"from eval.benchmarks import nltk_words as words\n{code}"],
        cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


def test_nouns_and_lemmas(nltk_data: Path) -> None:
    text = "Two men can see the wooden racks. Dogs running. the dogs."
    # AMBER: nouns alone, in their case, and a noun with a capital is in no WordNet.
    assert python(nltk_data, f"print(*words.nouns({text!r}))") == "man rack Dogs dog"
    # OPERA: everything in lower case; "running" is a noun too, but tagged as a verb.
    assert python(nltk_data, f"print(*words.lemmas({text!r}))") == (
        "two man can see the wooden rack . dog run . the dog ."
    )


def test_what_to_get(tmp_path: Path) -> None:
    for name in ("nouns", "lemmas"):
        message = python(tmp_path / "nothing", f"words.{name}('A dog.')")
        if not message.startswith("ValueError"):
            pytest.skip("NLTK's data are on this machine")
        assert "python -m nltk.downloader punkt_tab averaged_perceptron_tagger_eng" in message


def test_chair_with_operas_lemmas(nltk_data: Path, chair_root: Path) -> None:
    captions = "{'7': 'Two men. Dogs running.', '8': 'racks'}"
    code = f"""
from pathlib import Path
from eval.registry import BENCHMARKS
chair, root = BENCHMARKS["chair_opera"], Path({str(chair_root)!r})
print(*[unit.reading for unit in chair.score(root, chair.load(root), {captions})], sep="; ")
"""
    assert python(nltk_data, code) == "invented: dog; nothing invented"
