"""LLaVA-Bench in the Wild: a judge scores answers beside GPT-4's own (Liu et al. 2023).

Data as liuhaotian/llava-bench-in-the-wild has them, and LLaVA's rule.json; scores by its
eval_gpt_review_bench.py and summarize_gpt_review.py: the first line of the judge's reply holds two
scores, GPT-4's answer first, and the result is the mean of the model's over the mean of GPT-4's.
Published scores are those of gpt-4-0314 (gpt-4-0613 gives lower ones), at temperature 0.2 and
with a system message ("a helpful and precise assistant"), which a local judge is not given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from eval.answers import AnswerRow, answer_rows, answers_by_id, answers_to, as_answers, some
from eval.benchmark import Answers, Counts, Kind, Question, Unit, ratio
from eval.benchmarks.llava_review import (
    CATEGORIES,
    UNREADABLE,
    captions_of,
    careful_scores,
    official_scores,
    review_prompt,
    rules_of,
)
from eval.judging import needs_judge
from eval.rows import read_json_rows, require_ids

QUESTIONS, CONTEXT, REFERENCE = "questions.jsonl", "context.jsonl", "answers_gpt4.jsonl"
RULE = "rule.json"
FOLDER = "images/"

KINDS = {
    "score": Kind("model's mean score over GPT-4's"),
    "mean_score": Kind("model's mean score, 1 to 10", share=False),
    "reference_mean_score": Kind("GPT-4's mean score, 1 to 10", "neither", share=False),
    "unreadable": Kind("unreadable verdicts (averaged as -1)", "lower"),
    "careful_score": Kind("model's mean over GPT-4's, readable verdicts alone"),
    "careful_unreadable": Kind("verdicts that are not readable with care", "lower"),
    "empty": Kind("empty answers", "neither"),
}


@dataclass(frozen=True)
class LlavaBench:
    """LLaVA-Bench in the Wild: 60 questions about 24 pictures."""

    name: str = "llava_bench"
    title: str = "LLaVA-Bench in the Wild"
    folder: str = "llava_bench"
    parser: str = "llava-bench-official-1"
    max_new_tokens: int = 1024  # the default of LLaVA's model_vqa.py
    judge_max_new_tokens: int = 1024
    judge_required: bool = True
    headlines: tuple[str, ...] = ("score",)

    @property
    def kinds(self) -> Mapping[str, Kind]:
        return KINDS

    def files(self, root: Path) -> list[Path]:
        """Questions and GPT-4's answers."""
        paths = [root / name for name in (QUESTIONS, REFERENCE)]
        for path in paths:
            if not path.is_file():
                raise FileNotFoundError(
                    f"{path}: no such file; take it from the data set liuhaotian/"
                    "llava-bench-in-the-wild."
                )
        return paths

    def load(self, root: Path) -> list[Question]:
        """One question per row; labels are GPT-4's answers."""
        path, reference = self.files(root)
        labels = dict(answers_by_id(reference, "question_id"))
        questions = [
            _question(path, number, row, labels)
            for number, row in enumerate(read_json_rows(path), start=1)
        ]
        require_ids(path, "question_id", [question.id for question in questions])
        return questions

    def part(self, question: Question) -> str:
        return ""

    def read_answers(self, path: Path, questions: Sequence[Question]) -> Answers:
        return _by_id(answer_rows(path), questions)

    def score(
        self, root: Path, questions: Sequence[Question], answers: Mapping[str, str]
    ) -> list[Unit]:
        raise needs_judge(self.title)

    def needs_verdict(self, question: Question, answer: str) -> bool:
        return True

    def judge_questions(
        self, root: Path, questions: Sequence[Question], answers: Mapping[str, str]
    ) -> list[Question]:
        """The official prompt about every pair of answers, as the user's turn."""
        for name in (CONTEXT, RULE):
            if not (root / name).is_file():
                raise FileNotFoundError(
                    f"{root / name}: no such file, and the judge is asked with it; fetch the "
                    "benchmark (scripts/fetch_benchmarks.py), or give reviews (--verdicts FILE)."
                )
        context = root / CONTEXT
        captions, rules = captions_of(context), rules_of(root / RULE)
        pictures = {q.id: (q.image or "").removeprefix(FOLDER) for q in questions}
        unseen = [identity for identity, name in pictures.items() if name not in captions]
        if unseen:
            raise ValueError(f"{context}: no context for questions {some(unseen)}; take the file.")
        return [
            replace(
                q,
                prompt=review_prompt(
                    rules[q.category], captions[pictures[q.id]], q.prompt, q.label, answers[q.id]
                ),
                image=None,
            )
            for q in questions
        ]

    def read_verdicts(self, path: Path, questions: Sequence[Question]) -> Answers:
        """LLaVA's reviews (`content`, with `tuple` as read then, or `tuple` alone, which is what
        summarize_gpt_review.py averages), or rows with a text.

        Raises:
            ValueError: a `tuple` that is not what its `content` says.
        """
        rows = read_json_rows(path)
        for number, row in enumerate(rows, start=1):
            content, scores = row.get("content"), row.get("tuple")
            if content is None and isinstance(scores, list):
                row["content"] = " ".join(str(score) for score in scores)
            said = list(official_scores(content)) if isinstance(content, str) else scores
            if scores not in (said, None):
                raise ValueError(
                    f"{path}, row {number}: tuple {scores} is not what content says, {said}; "
                    "mend or remove one of them."
                )
        return _by_id(as_answers(path, rows, ("content", "text")), questions)

    def score_verdicts(
        self,
        root: Path,
        questions: Sequence[Question],
        answers: Mapping[str, str],
        verdicts: Mapping[str, str],
    ) -> list[Unit]:
        """One unit per question; questions about one picture are resampled together."""
        return [_unit(q, answers[q.id], verdicts[q.id]) for q in questions]

    def metrics(self, sums: Counts) -> dict[str, np.ndarray]:
        """Over all questions, and by category."""
        categories = [c for c in CATEGORIES if f"{c}/n" in sums]
        names = ("n", "model", "reference", "unreadable", "careful_model", "careful_reference")
        names += ("careful_unreadable", "empty")
        everything = {name: sum(sums[f"{c}/{name}"] for c in categories) for name in names}
        by_category = {
            f"{c}/{name}": value
            for c in categories
            for name, value in _metrics({n: sums[f"{c}/{n}"] for n in names}).items()
        }
        return _metrics({n: np.asarray(value) for n, value in everything.items()}) | by_category


def _by_id(rows: Sequence[AnswerRow], questions: Sequence[Question]) -> Answers:
    words = {question.id: question.prompt for question in questions}
    return answers_to(words, ((row.identity("question_id"), row) for row in rows))


def _metrics(sums: Counts) -> dict[str, np.ndarray]:
    n = sums["n"]
    # Where no verdict is readable the official means are -1 and -1, which would make 100 %.
    readable = sums["unreadable"] < n
    return {
        "score": np.where(readable, ratio(sums["model"], sums["reference"]), np.nan),
        "mean_score": ratio(sums["model"], n),
        "reference_mean_score": ratio(sums["reference"], n),
        "unreadable": ratio(sums["unreadable"], n),
        "careful_score": ratio(sums["careful_model"], sums["careful_reference"]),
        "careful_unreadable": ratio(sums["careful_unreadable"], n),
        "empty": ratio(sums["empty"], n),
    }


def _unit(question: Question, answer: str, verdict: str) -> Unit:
    official, careful = official_scores(verdict), careful_scores(verdict)
    counts = {
        "n": 1,
        "reference": official[0],
        "model": official[1],
        "unreadable": official == UNREADABLE,
        "careful_reference": careful[0] if careful else 0,
        "careful_model": careful[1] if careful else 0,
        "careful_unreadable": careful is None,
        "empty": not answer.strip(),
    }
    said = "unreadable" if official == UNREADABLE else f"{official[1]:g}, GPT-4 {official[0]:g}"
    return Unit(
        id=question.id,
        cluster=question.image or question.id,
        counts={f"{question.category}/{name}": float(value) for name, value in counts.items()},
        right=None,  # a score out of ten is neither
        category=question.category,
        question=question.prompt,
        answer=answer,
        reading=said,
        label=question.label,
        images=(question.image,) if question.image else (),
    )


def _question(
    path: Path, number: int, row: Mapping[str, object], labels: Mapping[str, str]
) -> Question:
    identity, image, text, category = (
        row.get(key) for key in ("question_id", "image", "text", "category")
    )
    if not isinstance(identity, int) or not isinstance(image, str) or not isinstance(text, str):
        raise ValueError(f"{path}, row {number}: needs question_id (number), image and text.")
    if category not in CATEGORIES:
        raise ValueError(f"{path}, row {number}: category {category!r} is none of {CATEGORIES}.")
    if str(identity) not in labels:
        raise ValueError(f"{path}, row {number}: {REFERENCE} has no answer to {identity}.")
    return Question(str(identity), text, FOLDER + image, labels[str(identity)], str(category))
