"""MME: two yes-or-no questions on each picture, in fourteen tasks (Fu et al. 2023)

A task's score is 100 times the share of right answers plus 100 times the share of pictures with
both answers right. Perception adds up ten tasks, cognition four; existence, count, position and
color are what the field calls the hallucination subset. Answers are read twice: by the official
rule of the eval tool's calculation.py, and carefully.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np

from eval.answers import AnswerRow, answer_rows, misfit_error, some
from eval.benchmark import Answers, Counts, Kind, Question, Unit, ratio
from eval.benchmarks.mme_files import (
    COGNITION,
    LACKING,
    LLAVA_SUFFIX,
    PERCEPTION,
    TASKS,
    Key,
    bare_question,
    question_files,
    question_key,
    read_questions,
    tool_answers,
)
from eval.benchmarks.pope import careful_verdict

_NAMES_NO_TASK = "names no task of MME, whose ids are <task>/<picture>"
Verdict = Literal["yes", "no", "other"]

HALLUCINATION = ("existence", "count", "position", "color")
GROUPS = {"perception": PERCEPTION, "cognition": COGNITION, "hallucination": HALLUCINATION}

KINDS = {
    "perception": Kind("perception (of 2000)", share=False),
    "cognition": Kind("cognition (of 800)", share=False),
    "hallucination": Kind("hallucination subset (of 800)", share=False),
    "careful_perception": Kind("perception, careful reading", share=False),
    "careful_cognition": Kind("cognition, careful reading", share=False),
    "careful_hallucination": Kind("hallucination subset, careful reading", share=False),
    "other": Kind("neither yes nor no (official rule)", "lower"),
    "unreadable": Kind("unreadable (careful reading)", "lower"),
    "yes_ratio": Kind("yes ratio", "neither"),
    "score": Kind("score (of 200)", share=False),
    "accuracy": Kind("accuracy"),
    "accuracy_plus": Kind("accuracy+"),
    "careful_score": Kind("score, careful reading", share=False),
    "questions": Kind("questions", "neither", share=False),
}


def official_verdict(answer: str) -> Verdict:
    """The rule of MME's calculation.py: yes, else no, within the first four characters.

    So "now" and "know" are no, and "It is" or "  yes" are other, which is wrong.
    """
    start = answer.lower()[:4]
    return "yes" if "yes" in start else "no" if "no" in start else "other"


@dataclass(frozen=True)
class Mme:
    """MME with LLaVA's prompt. A unit is a question, its picture the cluster."""

    name: str = "mme"
    title: str = "MME"
    folder: str = "mme"
    parser: str = "mme-official-1"
    max_new_tokens: int = 128  # the default of LLaVA's model_vqa_loader.py
    headlines: tuple[str, ...] = ("perception", "cognition", "hallucination")

    @property
    def kinds(self) -> Mapping[str, Kind]:
        return KINDS

    def files(self, root: Path) -> list[Path]:
        return question_files(root)

    def load(self, root: Path) -> list[Question]:
        """All questions; ids are LLaVA's <task>/<picture>, numbered 1 and 2."""
        asked: dict[str, int] = {}
        questions: list[Question] = []
        for row in read_questions(root):
            picture = f"{row.task}/{PurePosixPath(row.image).name}"
            asked[picture] = asked.get(picture, 0) + 1
            questions.append(
                Question(
                    id=f"{picture}#{asked[picture]}",
                    prompt=f"{bare_question(row.question)}\n{LLAVA_SUFFIX}",
                    image=row.image,
                    label=row.label,
                    category=row.task,
                )
            )
        return questions

    def part(self, question: Question) -> str:
        """Both questions of a picture; `read_answers` says how many pictures may be left out."""
        return _picture(question)

    def read_answers(self, path: Path, questions: Sequence[Question]) -> Answers:
        """The eval tool's texts, LLaVA's and our json lines, lmms-eval, or VLMEvalKit.

        Both questions of a picture share LLaVA's id, so rows are told apart by what was asked.
        Whole tasks may be left out, and of a task the few pictures that later downloads lack: as
        the official script does, a task's score is over the lines that there are.
        """
        by_key = {_key(question): question for question in questions}
        if path.is_dir() or path.suffix == ".txt":
            labels = {key: question.label for key, question in by_key.items()}
            keys = tool_answers(path, labels)
        else:
            keys = [_row_key(row, by_key) for row in answer_rows(path)]
        _require_tasks(path, by_key, [key for key, _ in keys])
        return [(by_key[key].id, text) for key, text in keys]

    def score(
        self, root: Path, questions: Sequence[Question], answers: Mapping[str, str]
    ) -> list[Unit]:
        """One unit per question; the second one of a picture counts the picture too."""
        pictures: dict[str, list[Question]] = {}
        for question in questions:
            pictures.setdefault(_picture(question), []).append(question)
        return [unit for both in pictures.values() for unit in _units(both, answers)]

    def metrics(self, sums: Counts) -> dict[str, np.ndarray]:
        """Points of tasks and of groups of tasks; a group that lacks a task has none (NaN)."""
        by_task = {t: _task_metrics(sums, t) for t in TASKS if f"{t}/questions" in sums}

        def points(tasks: Iterable[str], score: str) -> np.ndarray:
            absent = np.full_like(next(iter(sums.values())), np.nan)
            return np.sum([by_task[t][score] if t in by_task else absent for t in tasks], axis=0)

        def share(name: str) -> np.ndarray:
            part = sum(_count(sums, f"{task}/{name}") for task in by_task)
            return ratio(np.asarray(part), total)

        total = np.sum([sums[f"{task}/questions"] for task in by_task], axis=0)
        found = {group: points(tasks, "score") for group, tasks in GROUPS.items()}
        for group, tasks in GROUPS.items():
            found[f"careful_{group}"] = points(tasks, "careful_score")
        found |= {name: share(name) for name in ("other", "unreadable")}
        found |= {"yes_ratio": share("yes"), "questions": total}
        return found | {f"{t}/{k}": v for t, metrics in by_task.items() for k, v in metrics.items()}


def _picture(question: Question) -> str:
    return question.id.rpartition("#")[0]


def _key(question: Question) -> Key:
    return question_key(question.category, _picture(question), question.prompt)


def _row_key(row: AnswerRow, known: Container[Key]) -> tuple[Key, str]:
    picture = row.identity("question_id", "image_path")
    task = row.identity("category") if "category" in row.fields else picture.split("/")[0]
    if task not in TASKS:
        name = "category" if "category" in row.fields else "id"
        raise misfit_error(row, f"{name} {task!r:.40} {_NAMES_NO_TASK}")
    text = row.identity("prompt", "question")
    key = question_key(task, picture, text)
    if key not in known:
        raise misfit_error(row, f"{bare_question(text)!r:.80} is not asked of {picture} in {task}")
    return key, row.text


def _require_tasks(path: Path, known: Iterable[Key], answered: Iterable[Key]) -> None:
    """Answers cover a task but for a few pictures, or leave it out.

    Raises:
        ValueError: answers to a task lack more pictures than a later download does.
    """
    there = {key[:2] for key in answered}
    begun = {task for task, _ in there}
    absent = list(dict.fromkeys(k[:2] for k in known if k[0] in begun and k[:2] not in there))
    for task, count in Counter(task for task, _ in absent).items():
        if count > LACKING:
            names = [f"{name}/{picture}" for name, picture in absent if name == task]
            raise ValueError(
                f"{path}: {count} pictures of {task} have no answer: {some(names)}; a score over "
                "the rest would not be comparable."
            )


def _units(both: Sequence[Question], answers: Mapping[str, str]) -> list[Unit]:
    official = [official_verdict(answers[question.id]) for question in both]
    careful = [careful_verdict(answers[question.id]) for question in both]
    labels = [question.label for question in both]
    of_picture = {
        "pictures": 1.0,
        "both": float(official == labels),
        "careful_both": float(careful == labels),
    }
    units: list[Unit] = []
    for question, verdict, reading in zip(both, official, careful, strict=True):
        counts = {
            "questions": 1.0,
            "right": float(verdict == question.label),
            "careful_right": float(reading == question.label),
            "yes": float(verdict == "yes"),
            "other": float(verdict == "other"),
            "unreadable": float(reading is None),
        } | (of_picture if question is both[-1] else {})
        units.append(
            Unit(
                id=question.id,
                cluster=_picture(question),
                counts={f"{question.category}/{name}": value for name, value in counts.items()},
                right=verdict == question.label,
                category=question.category,
                question=bare_question(question.prompt),
                answer=answers[question.id],
                reading=verdict if reading else f"{verdict} (unreadable)",
                label=question.label,
                images=(question.image,) if question.image else (),
                joint=True,
            )
        )
    return units


def _count(sums: Counts, name: str) -> np.ndarray:
    return sums.get(name, np.zeros_like(next(iter(sums.values()))))


def _task_metrics(sums: Counts, task: str) -> dict[str, np.ndarray]:
    def share(name: str, whole: str) -> np.ndarray:
        return ratio(_count(sums, f"{task}/{name}"), _count(sums, f"{task}/{whole}"))

    accuracy, plus = share("right", "questions"), share("both", "pictures")
    careful = share("careful_right", "questions") + share("careful_both", "pictures")
    return {
        "score": 100 * (accuracy + plus),
        "accuracy": accuracy,
        "accuracy_plus": plus,
        "other": share("other", "questions"),
        "careful_score": 100 * careful,
        "questions": _count(sums, f"{task}/questions"),
    }
