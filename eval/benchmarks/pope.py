"""POPE: does the model see objects that are not there? (Li et al. 2023, RUCAIBox/POPE)

Questions are the official files, `coco_pope_{random,popular,adversarial}.json` (and the A-OKVQA and
GQA ones), as JSON lines or as one array. The COCO files exist in two versions that do not compare:
LLaVA's (2,910 random questions, some spelt "imange") and today's (3,000); a result's data hashes
say which it is. Answers are read twice: by the official rule, which calls everything without a
"no" a yes, and carefully, where an answer that says neither (or both) is unreadable.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from eval.benchmark import Answers, Counts, Kind, Question, Unit, ratio
from eval.benchmarks.pope_answers import ID_OFFSET, SPLITS, read_answers
from eval.pictures import image_folder
from eval.rows import read_json_rows

Verdict = Literal["yes", "no"]

SUFFIX = "\nAnswer the question using a single word or phrase."

KINDS = {
    "mean_f1": Kind("mean F1"),
    "mean_accuracy": Kind("mean accuracy"),
    "accuracy": Kind("accuracy"),
    "precision": Kind("precision"),
    "recall": Kind("recall"),
    "f1": Kind("F1"),
    "yes_ratio": Kind("yes ratio", "neither"),
    "unreadable": Kind("unreadable", "lower"),
    "careful_accuracy": Kind("accuracy, careful reading"),
    "careful_f1": Kind("F1, careful reading"),
}


def official_verdict(answer: str) -> Verdict:
    """The rule of POPE's evaluate.py (LLaVA's eval_pope.py is the same).

    Up to the first ".", commas removed, split on single blanks: "No", "not" or "no" among the
    tokens means no, anything else yes. So "" and "NO" are yes; kept for parity.
    """
    tokens = answer.split(".")[0].replace(",", "").split(" ")
    return "no" if {"No", "not", "no"} & set(tokens) else "yes"


def careful_verdict(answer: str) -> Verdict | None:
    """The word yes or the word no in any case; None if neither or both stand there."""
    words = set(re.findall(r"\w+", answer.lower()))
    if ("yes" in words) == ("no" in words):
        return None
    return "yes" if "yes" in words else "no"


def _outcome(verdict: Verdict, label: str) -> str:
    if verdict == "yes":
        return "TP" if label == "yes" else "FP"
    return "TN" if label == "no" else "FN"


@dataclass(frozen=True)
class Pope:
    """POPE's three splits over one set of pictures. Positive class: yes. Headline: mean F1.

    `prefix`: what the names of the question files begin with. `pictures`: folders to look in.
    """

    name: str = "pope"
    title: str = "POPE"
    folder: str = "pope"
    prefix: str = "coco_pope"
    pictures: tuple[str, ...] = ("images", "val2014")
    parser: str = "pope-official-1"
    max_new_tokens: int = 128  # the default of LLaVA's model_vqa_loader.py
    headlines: tuple[str, ...] = ("mean_f1", "mean_accuracy")

    @property
    def kinds(self) -> Mapping[str, Kind]:
        return KINDS

    def files(self, root: Path) -> list[Path]:
        """The three question files; FileNotFoundError names the one that is missing."""
        paths = [root / f"{self.prefix}_{split}.json" for split in SPLITS]
        for path in paths:
            if not path.is_file():
                raise FileNotFoundError(
                    f"{path}: no such POPE file; --data-root must hold "
                    f"{self.prefix}_{{random,popular,adversarial}}.json."
                )
        return paths

    def load(self, root: Path) -> list[Question]:
        """All questions, ids as LLaVA numbers them."""
        folder = image_folder(root, self.pictures)
        questions: list[Question] = []
        for split, path in zip(SPLITS, self.files(root), strict=True):
            for number, row in enumerate(read_json_rows(path), start=1):
                questions.append(_question(path, number, row, split, folder))
        seen: set[str] = set()
        for question in questions:
            if question.id in seen:
                raise ValueError(
                    f"{root}: question_id {int(question.id) - ID_OFFSET[question.category]} "
                    f"stands twice in the {question.category} file; take the official file."
                )
            seen.add(question.id)
        return questions

    def part(self, question: Question) -> str:
        return question.category

    def read_answers(self, path: Path, questions: Sequence[Question]) -> Answers:
        return read_answers(path, questions)

    def score(
        self, root: Path, questions: Sequence[Question], answers: Mapping[str, str]
    ) -> list[Unit]:
        """One unit per question, with the confusion counts of its split in both readings."""
        return [_unit(question, answers[question.id]) for question in questions]

    def metrics(self, sums: Counts) -> dict[str, np.ndarray]:
        """Per split, and the unweighted means that papers quote."""
        by_split = {s: _split_metrics(sums, s) for s in SPLITS if f"{s}/n" in sums}
        # A mean over some of the splits would pass for POPE's.
        means = {
            f"mean_{name}": np.mean([by_split[s][name] for s in SPLITS], axis=0)
            if len(by_split) == len(SPLITS)
            else np.full_like(next(iter(sums.values())), np.nan)
            for name in ("f1", "accuracy")
        }
        return means | {f"{s}/{k}": v for s, m in by_split.items() for k, v in m.items()}


def _question(
    path: Path, number: int, row: Mapping[str, object], split: str, folder: str
) -> Question:
    identity, image, text, label = (
        row.get(key) for key in ("question_id", "image", "text", "label")
    )
    if not isinstance(identity, int) or not isinstance(image, str) or not isinstance(text, str):
        raise ValueError(f"{path}, row {number}: needs question_id (number), image and text.")
    if label not in ("yes", "no"):
        raise ValueError(f"{path}, row {number}: label {label!r} is neither yes nor no.")
    return Question(
        id=str(ID_OFFSET[split] + identity),
        prompt=text + SUFFIX,
        image=f"{folder}/{image}",
        label=str(label),
        category=split,
    )


def _unit(question: Question, answer: str) -> Unit:
    official, careful = official_verdict(answer), careful_verdict(answer)
    counts = {_outcome(official, question.label): 1.0, "n": 1.0, f"label_{question.label}": 1.0}
    if careful is None:
        counts["unreadable"] = 1.0
    else:
        counts["careful_" + _outcome(careful, question.label)] = 1.0
    return Unit(
        id=question.id,
        cluster=question.image or question.id,
        counts={f"{question.category}/{key}": value for key, value in counts.items()},
        right=official == question.label,
        category=question.category,
        question=question.prompt.removesuffix(SUFFIX),
        answer=answer,
        reading=official if careful else f"{official} (unreadable)",
        label=question.label,
        images=(question.image,) if question.image else (),
    )


def _split_metrics(sums: Counts, split: str) -> dict[str, np.ndarray]:
    n = sums[f"{split}/n"]
    zero = np.zeros_like(n)

    def count(name: str) -> np.ndarray:
        return sums.get(f"{split}/{name}", zero)

    tp, fp, tn, fn = (count(k) for k in ("TP", "FP", "TN", "FN"))
    ctp, cfp, ctn = (count(f"careful_{k}") for k in ("TP", "FP", "TN"))
    return {
        "accuracy": ratio(tp + tn, n),
        # The official script divides by zero where no answer is yes; here precision is then
        # undefined (NaN) and F1, written without it, is 0.
        "precision": ratio(tp, tp + fp),
        "recall": ratio(tp, tp + fn),
        "f1": ratio(2 * tp, 2 * tp + fp + fn),
        "yes_ratio": ratio(tp + fp, n),
        "unreadable": ratio(count("unreadable"), n),
        "careful_accuracy": ratio(ctp + ctn, n),
        # An unreadable answer to a yes-question is a miss: the recall's whole is all of them.
        "careful_f1": ratio(2 * ctp, ctp + cfp + count("label_yes")),
    }
