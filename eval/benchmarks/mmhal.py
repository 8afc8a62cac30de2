"""MMHal-Bench: a judge rates answers for information and hallucination (Sun et al. 2023).

The official data and rule (Shengcao1006/MMHal-Bench: response_template.json, eval_gpt4.py): a
reply with exactly one "rating: s" has that rating of 0..6, any other reply has 0, and a rating
below 3 is a hallucination. Informativeness is RLHF-V's (summarize_gpt_mmhal_review.py). Published
scores are those of gpt-4-0314; another judge's are comparable among themselves alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from eval.answers import TEXT_KEYS, AnswerRow, answer_rows, answers_to
from eval.benchmark import Answers, Counts, Kind, Question, Unit, ratio
from eval.judging import needs_judge, prompt_of_script
from eval.rows import read_json_rows, require_ids

TEMPLATES = ("response_template.json", "mmhal-bench_answer_template.json")
SCRIPT = "eval_gpt4.py"
TYPES = ("attribute", "adversarial", "comparison", "counting", "relation", "environment")
TYPES += ("holistic", "other")
TEXTS = ("question_type", "image_id", "image_src", "question", "gt_answer")
NO_HALLUCINATION = 3  # the lowest rating without one
_RATING = re.compile(r"rating\**\s*:\s*\**\s*(\d+(?:\.\d+)?)")

KINDS = {
    "mean_rating": Kind("mean rating, 0 to 6", share=False),
    "hallucination_rate": Kind("answers with a hallucination", "lower"),
    "informativeness": Kind("informativeness (RLHF-V)"),
    "unreadable": Kind("verdicts without one rating (read as 0)", "lower"),
    "careful_mean_rating": Kind("mean rating, readable verdicts alone", share=False),
    "careful_hallucination_rate": Kind("with a hallucination, readable verdicts alone", "lower"),
    "careful_unreadable": Kind("verdicts that are not readable with care", "lower"),
    "empty": Kind("empty answers", "neither"),
}


def official_rating(reply: str) -> int | None:
    """The one s of 0..6 whose "rating: s" stands in the reply, in capitals or not; else None.

    By eval_gpt4.py: "Rating: 3.5" has 3 and "Rating: 10" has 1, "Rating:5" none.
    """
    found = [rating for rating in range(7) if f"rating: {rating}" in reply.lower()]
    return found[0] if len(found) == 1 else None


def careful_rating(reply: str) -> int | None:
    """The one whole number of 0..6 that the reply says as its rating, bold print aside."""
    found = set(_RATING.findall(reply.lower()))
    rating = found.pop() if len(found) == 1 else ""
    return int(rating) if rating in set("0123456") else None


@dataclass(frozen=True)
class MmHal:
    """MMHal-Bench. Question ids are the pictures' ids (image_id)."""

    name: str = "mmhal"
    title: str = "MMHal-Bench"
    folder: str = "mmhal"
    parser: str = "mmhal-official-1"
    max_new_tokens: int = 1024  # the default of LLaVA's model_vqa.py
    judge_max_new_tokens: int = 512
    judge_required: bool = True
    headlines: tuple[str, ...] = ("hallucination_rate", "mean_rating")

    @property
    def kinds(self) -> Mapping[str, Kind]:
        return KINDS

    def files(self, root: Path) -> list[Path]:
        """The template, by its official name or by RLHF-V's."""
        template = next((root / n for n in TEMPLATES if (root / n).is_file()), None)
        if template is None:
            raise FileNotFoundError(
                f"{root / TEMPLATES[0]}: no such file; take it from the data set Shengcao1006/"
                "MMHal-Bench."
            )
        return [template]

    def load(self, root: Path) -> list[Question]:
        """One question per item of the template, in its order."""
        path = self.files(root)[0]
        questions = [_question(path, n, row) for n, row in enumerate(read_json_rows(path), 1)]
        require_ids(path, "image_id", [question.id for question in questions])
        return questions

    def part(self, question: Question) -> str:
        return ""

    def read_answers(self, path: Path, questions: Sequence[Question]) -> Answers:
        """The template filled in, or rows with a question_id: an image_id, or the place from 0."""
        rows = answer_rows(path, ("model_answer", *TEXT_KEYS))
        if rows and all("model_answer" in row.fields and not row.text for row in rows):
            raise ValueError(f"{path}: every model_answer is empty; fill in the model's answers.")
        return _by_id(rows, questions)

    def score(
        self, root: Path, questions: Sequence[Question], answers: Mapping[str, str]
    ) -> list[Unit]:
        raise needs_judge(self.title)

    def needs_verdict(self, question: Question, answer: str) -> bool:
        return True

    def judge_questions(
        self, root: Path, questions: Sequence[Question], answers: Mapping[str, str]
    ) -> list[Question]:
        """The official prompt about every answer, as the user's turn."""
        path = self.files(root)[0]
        prompt = prompt_of_script(root / SCRIPT, "template", ("{}",) * 4)
        contents = {str(row["image_id"]): _contents(path, row) for row in read_json_rows(path)}
        return [
            replace(
                question,
                prompt=prompt.format(
                    contents[question.id], question.prompt, question.label, answers[question.id]
                ),
                image=None,
            )
            for question in questions
        ]

    def read_verdicts(self, path: Path, questions: Sequence[Question]) -> Answers:
        """What eval_gpt4.py saves (responses of the API, in the template's order), RLHF-V's merged
        file (`gpt4_review`), or rows of question_id and text."""
        rows = read_json_rows(path)
        if any("choices" in row for row in rows):
            if len(rows) != len(questions):
                raise ValueError(
                    f"{path}: {len(rows)} responses to {len(questions)} questions; responses carry "
                    "no ids, so that only a whole file can be read."
                )
            replies = [_reply(path, number, row) for number, row in enumerate(rows, 1)]
            return [(q.id, reply) for q, reply in zip(questions, replies, strict=True)]
        reviewed = any("gpt4_review" in row for row in rows)
        return _by_id(answer_rows(path, ("gpt4_review",) if reviewed else TEXT_KEYS), questions)

    def score_verdicts(
        self,
        root: Path,
        questions: Sequence[Question],
        answers: Mapping[str, str],
        verdicts: Mapping[str, str],
    ) -> list[Unit]:
        """One unit per question, right without a hallucination."""
        return [_unit(q, answers[q.id], verdicts[q.id]) for q in questions]

    def metrics(self, sums: Counts) -> dict[str, np.ndarray]:
        """Over all answers, and the mean rating by type of question."""
        readable = sums["n"] - sums["careful_unreadable"]
        by_type = {
            f"{t}/mean_rating": ratio(sums[f"{t}/rating"], sums[f"{t}/n"])
            for t in TYPES
            if f"{t}/n" in sums
        }
        return {
            "hallucination_rate": ratio(sums["hallucinated"], sums["n"]),
            "mean_rating": ratio(sums["rating"], sums["n"]),
            "informativeness": ratio(sums["informative"], 3 * sums["n"]),
            "unreadable": ratio(sums["unreadable"], sums["n"]),
            "careful_hallucination_rate": ratio(sums["careful_hallucinated"], readable),
            "careful_mean_rating": ratio(sums["careful_rating"], readable),
            "careful_unreadable": ratio(sums["careful_unreadable"], sums["n"]),
            "empty": ratio(sums["empty"], sums["n"]),
        } | by_type


def _question(path: Path, number: int, row: Mapping[str, object]) -> Question:
    kind, identity, source, text, label = (row.get(key) for key in TEXTS)
    if not all(isinstance(row.get(key), str) and row[key] for key in TEXTS):
        raise ValueError(f"{path}, row {number}: needs the texts {', '.join(TEXTS)}.")
    if kind not in TYPES:
        raise ValueError(f"{path}, row {number}: question_type {kind!r}; there are {TYPES}.")
    # test_data.zip names the pictures as their addresses end.
    image = f"images/{str(source).rsplit('/', 1)[-1]}"
    return Question(str(identity), str(text), image, str(label), str(kind))


def _contents(path: Path, row: Mapping[str, object]) -> str:
    contents = row.get("image_content")
    if not isinstance(contents, list):
        raise ValueError(f"{path}: image_content of {row['image_id']} is no list of texts.")
    return ", ".join(str(content) for content in contents)


def _by_id(rows: Sequence[AnswerRow], questions: Sequence[Question]) -> Answers:
    places = {str(place): question.id for place, question in enumerate(questions)}

    def identity(row: AnswerRow) -> str:
        found = row.identity("image_id", "question_id")
        return found if "image_id" in row.fields else places.get(found, found)

    words = {question.id: question.prompt for question in questions}
    return answers_to(words, ((identity(row), row) for row in rows))


def _reply(path: Path, number: int, row: Mapping[str, object]) -> str:
    match row:
        case {"choices": [{"message": {"content": str(content)}}, *_]}:
            return content
    raise ValueError(
        f"{path}, row {number}: no text in choices[0].message.content; ask the judge again."
    )


def _unit(question: Question, answer: str, verdict: str) -> Unit:
    official, careful = official_rating(verdict), careful_rating(verdict)
    rating = official or 0
    counts = {
        "n": 1,
        "rating": rating,
        "hallucinated": rating < NO_HALLUCINATION,
        "informative": rating - 3 if rating >= NO_HALLUCINATION else rating,
        "unreadable": official is None,
        "careful_rating": careful or 0,
        "careful_hallucinated": careful is not None and careful < NO_HALLUCINATION,
        "careful_unreadable": careful is None,
        "empty": not answer.strip(),
        f"{question.category}/n": 1,
        f"{question.category}/rating": rating,
    }
    return Unit(
        id=question.id,
        cluster=question.id,
        counts={name: float(value) for name, value in counts.items()},
        right=rating >= NO_HALLUCINATION,
        category=question.category,
        question=question.prompt,
        answer=answer,
        reading=f"rating {rating}" + (" (unreadable)" if official is None else ""),
        label=question.label,
        images=(question.image,) if question.image else (),
    )
