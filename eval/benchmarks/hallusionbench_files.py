"""HallusionBench's files of answers and verdicts, and what answers and judges say in them.

Official rows are HallusionBench.json's with the answer in `model_prediction` (or one
`<model>_output`) and the verdict 0, 1 or 2 in `<answers>_human_check`, `<answers>_gpt_check` or
`gpt4v_output_gpt_check`, which evaluation.py writes whatever the model. VLMEvalKit's rows have an
`index` (VD_illusion_1_0_0_0; the third part is visual_input) and what its judge made of the answer
in `extracted`. lmms-eval's samples hold the official row in `doc`; its judge's verdicts lie in
two official files, hallusion_output_{vd,vs}_model.json, which may be put one behind the other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.answers import TEXT_KEYS, AnswerRow, answer_rows, answers_to
from eval.benchmark import Answers, Question
from eval.benchmarks.hallusionbench_rows import KEYS, RIGHT, UNCLEAR, WRONG
from eval.rows import read_rows

_CHECKS = ("_human_check", "_gpt_check")
_NO_PICTURE = r"VS_[^_]+_[^_]+_0_[^_]+"
_ANY_MODEL = "gpt4v_output_gpt_check"
# Word for word the prompt of utils.evaluate_by_chatgpt.
OFFICIAL_JUDGE = (
    "Imagine you are an intelligent teacher. Thoroughly read the question, reference answer and "
    "the prediction answer to ensure a clear understanding of the information provided. Assess "
    "the correctness of the predictions. If the prediction answer does not conflict with the "
    "reference answer, please generate “correct”. If the prediction answer conflict with the "
    "reference answer, please generate “incorrect”. If the prediction answer is unclear about the "
    'answer, please generate "unclear". \n\n Question:{question}\nReference answer: {reference}'
    "\nPrediction answer:{answer}\nOutput:"
)
# Word for word VLMEvalKit's YOrN_match_prompt.
VLMEVALKIT_JUDGE = (
    "You are an AI assistant who will help me to match an answer with two options of a question. "
    "The options are only Yes / No. You are provided with a question and an answer, and you need "
    "to find which option (Yes / No) is most similar to the answer. If the meaning of all options "
    "are significantly different from the answer, output Unknown. Your should output a single "
    "word among the following 3 choices: Yes, No, Unknown.\nExample 1: \nQuestion: Is the word in "
    "this image 'Hello'?\nAnswer: The word in this image is 'Hello'.\nYour output: Yes\n"
    "Example 2: \nQuestion: Is the word in this image 'Hello'?\nAnswer: The word in this image is "
    "not 'Hello'.\nYour output: No\nExample 3: \nQuestion: {question}?\nAnswer: {answer}\n"
    "Your output: "
)


def read_verdict(reply: str) -> int:
    """The official reading: "incorrect", else "correct", else unclear; so "not correct" is right.

    Released files hold the numbers themselves.
    """
    text = reply.strip().lower()
    if text in ("0", "1", "2"):
        return int(text)
    if "incorrect" in text:
        return WRONG
    return RIGHT if "correct" in text else UNCLEAR


def contains_yes(answer: str) -> str:
    """lmms-eval's rule without a judge (hb_aggregation_result_intern): all but a "yes" is a no."""
    return "yes" if "yes" in answer.lower() else "no"


def vlmevalkit_word(answer: str) -> str | None:
    """VLMEvalKit's YOrN_Extraction: the word yes or the word no; None if neither or both.

    Words are what blanks part after punctuation is gone, by the rule of VQA's evaluation: a mark
    goes without a trace where the answer has it beside a blank, or holds a number like 1,000;
    else it leaves a blank. Other marks stay, so that "**Yes**" and "No:" are no words.
    """
    lower = answer.lower()
    traceless = re.search(r"\d,\d", lower) is not None
    text = lower
    for mark in ';/[]"{}()=+\\_-><@`,?!':
        beside_blank = f"{mark} " in lower or f" {mark}" in lower
        text = text.replace(mark, "" if traceless or beside_blank else " ")
    # The original hands re.UNICODE to `count`, which so is 32.
    words = re.sub(r"\.(?!\d)", "", text, count=32).split()
    if ("yes" in words) == ("no" in words):
        return None
    return "yes" if "yes" in words else "no"


@dataclass(frozen=True)
class Files:
    """Reads files about `questions`.

    `pictured`: rows about the 178 questions without a picture are left out, not an error.
    """

    questions: Sequence[Question]
    pictured: bool

    def answers(self, path: Path) -> Answers:
        """Pairs of question id and answer.

        Raises:
            ValueError: answers of several models, or a row that asks something else.
        """
        column = _answer_column(path, read_rows(path))
        keys = (*TEXT_KEYS, column) if column else TEXT_KEYS
        return self._pairs(answer_rows(path, keys))

    def verdicts(self, path: Path, judge: str) -> Answers:
        """Pairs of question id and verdict; none where the file holds answers alone.

        Args:
            judge: the prompt of the judge whose replies this project has written.

        Raises:
            ValueError: verdicts of several judges, of other answers, or none of the official ones.
        """
        rows = read_rows(path)
        column = _verdict_column(path, rows)
        start = judge.partition("{")[0]
        judged: list[AnswerRow] = []
        for number, fields in enumerate(rows, start=1):
            where = f"{path}, row {number}"
            if column is not None:
                judged.append(AnswerRow(where, fields, _checked(where, column, fields)))
            elif str(fields.get("prompt")).startswith(start) and "text" in fields:
                judged.append(AnswerRow(where, fields, str(fields["text"])))
        return self._pairs(judged)

    def extractions(self, path: Path) -> Answers:
        """What VLMEvalKit's judge extracted (Yes, No, Unknown), or replied to this project.

        Raises:
            ValueError: another word.
        """
        rows = read_rows(path)
        if not any("extracted" in fields for fields in rows):
            return self.verdicts(path, VLMEVALKIT_JUDGE)
        judged: list[AnswerRow] = []
        for number, fields in enumerate(rows, start=1):
            where, word = f"{path}, row {number}", fields.get("extracted")
            if word not in ("Yes", "No", "Unknown"):
                raise ValueError(f"{where}: extracted {word!r:.60} is none of Yes, No, Unknown.")
            judged.append(AnswerRow(where, fields, str(word)))
        return self._pairs(judged)

    def _pairs(self, rows: Sequence[AnswerRow]) -> Answers:
        named = [(_identity(row), row) for row in rows]
        if self.pictured:
            named = [(i, row) for i, row in named if not re.fullmatch(_NO_PICTURE, i)]
        return answers_to({question.id: question.prompt for question in self.questions}, named)


def _identity(row: AnswerRow) -> str:
    if "set_id" in row.fields and "figure_id" in row.fields:
        return "_".join(row.identity(key).strip() for key in KEYS)
    if "index" in row.fields:
        parts = row.identity("index").split("_")
        if len(parts) != 6:
            raise ValueError(
                f"{row.where}: index {row.fields['index']!r:.60} is none of VLMEvalKit's, like "
                "VD_illusion_1_0_0_0 (category, subcategory, input, set, figure, question)."
            )
        return "_".join([*parts[:2], *parts[3:]])
    return row.identity("question_id")


def _columns(rows: Sequence[Mapping[str, object]]) -> list[str]:
    return list(dict.fromkeys(name for fields in rows for name in fields))


def _answer_column(path: Path, rows: Sequence[Mapping[str, object]]) -> str | None:
    """The one column of answers with an official name; None where there is none."""
    named = [c for c in _columns(rows) if c == "model_prediction" or c.endswith("_output")]
    if len(named) > 1:
        raise ValueError(
            f"{path}: holds answers of several models ({', '.join(named)}); keep one, with the "
            "verdicts on it."
        )
    return named[0] if named else None


def _verdict_column(path: Path, rows: Sequence[Mapping[str, object]]) -> str | None:
    checks = [column for column in _columns(rows) if column.endswith(_CHECKS)]
    if not checks:
        return None
    if len(checks) > 1:
        raise ValueError(
            f"{path}: holds verdicts of several judges ({', '.join(checks)}); keep one."
        )
    answers = _answer_column(path, rows)
    if answers and checks[0] != _ANY_MODEL and not checks[0].startswith(f"{answers}_"):
        raise ValueError(
            f"{path}: verdicts in {checks[0]}, answers in {answers}: they belong to another "
            f"model? Name the verdicts on these answers {answers}_human_check."
        )
    return checks[0]


def _checked(where: str, column: str, fields: Mapping[str, object]) -> str:
    text = str(fields.get(column, "")).strip()
    if text not in ("0", "1", "2") and not re.search("correct|unclear", text.lower()):
        raise ValueError(
            f"{where}: {column} {text!r:.60} is neither 0, 1 or 2 nor a judge's word; judge it."
        )
    return text
