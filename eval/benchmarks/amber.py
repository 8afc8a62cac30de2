"""AMBER: does the model caption and confirm what is not there? (Wang et al. 2023)

The official files of junyangwang0410/AMBER (annotations.json, relation.json, safe_words.txt,
query/query_all.json): 1,004 captions, and 14,216 questions about existence, attributes and
relations. Scores are those of its inference.py. A yes/no answer counts as official only if it is
exactly "Yes" or "No"; a careful reading stands beside it.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np

from eval.answers import AnswerRow, answer_rows, answers_to, misfit_error
from eval.benchmark import COMPLETE, Answers, Counts, Kind, Question, Unit
from eval.benchmarks.amber_annotations import CAPTIONS, Truth, read_annotations, read_relation
from eval.benchmarks.amber_captions import CaptionReader, ExactWords, WordRule
from eval.benchmarks.amber_metrics import DIMENSION_OF, KINDS, amber_metrics
from eval.benchmarks.pope import careful_verdict
from eval.pictures import image_folder
from eval.rows import read_json_rows

# AMBER's repository gives no words for asking: this is VLMEvalKit's line (image_yorn.py).
SUFFIX = "\nPlease answer yes or no."


@dataclass(frozen=True)
class Amber:
    """AMBER; ids are the official ones. `words` is the rule that reads captions."""

    name: str = "amber"
    title: str = "AMBER (captions by exact match, no word vectors)"
    words: WordRule = field(default_factory=ExactWords)
    folder: str = "amber"
    max_new_tokens: int = 1024  # AMBER names none; LLaVA's model_vqa.py has this
    headlines: tuple[str, ...] = ("amber_score", "chair", "f1")

    @property
    def parser(self) -> str:
        return f"amber-1, {self.words.identity}"

    @property
    def kinds(self) -> Mapping[str, Kind]:
        return KINDS

    def files(self, root: Path) -> list[Path]:
        """The four official files; FileNotFoundError names the one that is missing."""
        names = ("annotations.json", "relation.json", "safe_words.txt", "query/query_all.json")
        for name in names:
            if not (root / name).is_file():
                raise FileNotFoundError(
                    f"{root / name}: no such file; --data-root must hold what AMBER's repository "
                    "has in data/."
                )
        return [root / name for name in names]

    def load(self, root: Path) -> list[Question]:
        """Captions to write and questions to answer, in the order of query_all.json.

        Raises:
            ValueError: files that do not belong together, or a missing model of the word rule.
        """
        self.words.require()
        annotations, relation, _, queries = self.files(root)
        truths = read_annotations(annotations)
        folder = image_folder(root, ("image", "images"))
        questions = [
            _question(f"{queries}, row {number}", row, truths, folder)
            for number, row in enumerate(read_json_rows(queries), start=1)
        ]
        if sorted(question.id for question in questions) != sorted(truths):
            raise ValueError(
                f"{queries}: does not ask each of the {len(truths)} items of {annotations.name} "
                "once; take both from one version of AMBER's repository."
            )
        read_relation(relation, truths)
        return questions

    def part(self, question: Question) -> str:
        """inference.py's evaluation types, but any set of captions makes CHAIR, Cover, Hal, Cog."""
        return DIMENSION_OF.get(question.category, question.id)

    def read_answers(self, path: Path, questions: Sequence[Question]) -> Answers:
        """By id; VLMEvalKit's tables have none of ours and are joined by picture and question."""
        rows = answer_rows(path)
        if rows and all({"image_path", "question"} <= row.fields.keys() for row in rows):
            return _answers_of_vlmevalkit(rows, questions)
        words = {question.id: question.prompt.removesuffix(SUFFIX) for question in questions}
        return answers_to(words, ((row.identity("question_id", "id"), row) for row in rows))

    def score(
        self, root: Path, questions: Sequence[Question], answers: Mapping[str, str]
    ) -> list[Unit]:
        """One unit per caption and per question."""
        annotations, relation, safe, _ = self.files(root)
        truths = read_annotations(annotations)
        safe_words = safe.read_text(encoding="utf-8-sig").splitlines()
        reader = CaptionReader(self.words, read_relation(relation, truths), safe_words)
        units = [
            _caption(question, answers[question.id], truths[question.id], reader)
            if question.category == CAPTIONS
            else _answer(question, answers[question.id])
            for question in questions
        ]
        if len(units) < len(truths):
            return units
        return [replace(unit, counts=unit.counts | {COMPLETE: 1.0}) for unit in units]

    def metrics(self, sums: Counts) -> dict[str, np.ndarray]:
        return amber_metrics(sums)


def _question(
    where: str, row: Mapping[str, object], truths: Mapping[str, Truth], folder: str
) -> Question:
    identity, image, query = str(row.get("id")), row.get("image"), row.get("query")
    if not isinstance(image, str) or not isinstance(query, str):
        raise ValueError(f"{where}: needs id, image and query.")
    if identity not in truths:
        raise ValueError(f"{where}: annotations.json has no id {identity}.")
    truth = truths[identity]
    return Question(
        id=identity,
        prompt=query if truth.category == CAPTIONS else query + SUFFIX,
        image=f"{folder}/{image}",
        label=", ".join(truth.truth),
        category=truth.category,
    )


def _answers_of_vlmevalkit(rows: Sequence[AnswerRow], questions: Sequence[Question]) -> Answers:
    """Ten questions stand twice in AMBER, with one truth: they are answered in turn."""
    waiting: dict[tuple[str, str], deque[str]] = defaultdict(deque)
    for question in questions:
        name = PurePosixPath(question.image or "").name
        waiting[name, question.prompt.removesuffix(SUFFIX)].append(question.id)
    pairs: list[tuple[str, str]] = []
    for row in rows:
        name = PurePosixPath(str(row.fields["image_path"]).replace("\\", "/")).name
        asked = str(row.fields["question"]).removesuffix(SUFFIX)
        if not waiting.get((name, asked)):
            raise misfit_error(row, f"AMBER does not ask {asked!r:.80} about {name} (again)")
        pairs.append((waiting[name, asked].popleft(), row.text))
    return pairs


def _caption(question: Question, caption: str, truth: Truth, reader: CaptionReader) -> Unit:
    reading = reader.read(caption, truth.truth, truth.hallu)
    counts = {
        "captions": 1,
        "nouns": reading.nouns,
        "invented": len(reading.invented),
        "clean": not reading.invented,
        "truth": len(truth.truth),
        "covered": reading.covered,
        "hallu": len(truth.hallu),
        "imagined": reading.imagined,
    }
    words = ", ".join(sorted(set(reading.invented)))
    return _unit(
        question,
        caption,
        counts,
        right=not reading.invented,
        reading=f"invented: {words}" if words else "nothing invented",
    )


def _answer(question: Question, answer: str) -> Unit:
    said = answer.lower() if answer in ("Yes", "No") else None
    careful, gold = careful_verdict(answer), question.label
    counts = {
        "n": 1,
        "right": said == gold,
        "gold_no": gold == "no",
        "said_no": said == "no",
        "right_no": said == gold == "no",
        "inexact": said is None,
        "unreadable": careful is None,
        "careful_right": careful == gold,
        "careful_said_no": careful == "no",
        "careful_right_no": careful == gold == "no",
    }
    return _unit(
        question,
        answer,
        {f"{question.category}/{name}": value for name, value in counts.items()},
        right=said == gold,
        reading=said or f"neither (with care: {careful or 'unreadable'})",
    )


def _unit(
    question: Question, answer: str, counts: Mapping[str, float], right: bool, reading: str
) -> Unit:
    asked = question.prompt.removesuffix(SUFFIX)
    return Unit(
        id=question.id,
        cluster=question.image or question.id,
        counts={name: float(value) for name, value in counts.items()},
        right=right,
        category=question.category,
        question=asked,
        answer=answer,
        reading=reading,
        label=question.label,
        images=(question.image,) if question.image else (),
    )
