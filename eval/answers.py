"""Files of answers: what each row answers, and joining them to questions; nothing goes missing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.benchmark import Answers, LanguageBenchmark, Question
from eval.rows import read_rows

TEXT_KEYS = ("text", "prediction", "model_prediction", "response", "caption")
"""LLaVA says "text", VLMEvalKit "prediction", HallusionBench "model_prediction", AMBER "response",
COCO results "caption"."""
ANSWER_TOO = (*TEXT_KEYS, "answer")
"""For POPE, MMVP (Cambrian) and Object HalBench, whose authors' scripts write "answer". Elsewhere
it is a table's right answer, and nobody's prediction."""
TABLE_KEYS = ("index", "category")
"""VLMEvalKit's and lmms-eval's tables have these, where "answer" is the right one for these three
as well; none of their authors' answers have."""
ASKED_KEYS = ("prompt", "question", "Question", "query")
"""Where a row says what it asked."""
_WHOLE = re.compile(r"\d+\.0")


@dataclass(frozen=True)
class AnswerRow:
    """One row of a file of answers; `where` names file and row for messages."""

    where: str
    fields: Mapping[str, object]
    text: str

    def identity(self, *keys: str) -> str:
        """The first of these fields that is present, as an id.

        A table that had an empty cell in the column writes 7 as 7.0, which is 7 again here.

        Raises:
            ValueError: none is, or it is neither a whole number nor a string.
        """
        value = _field(self.where, self.fields, keys)
        whole = isinstance(value, str) or (isinstance(value, (int, float)) and value % 1 == 0)
        if isinstance(value, bool) or not whole:
            raise ValueError(f"{self.where}: id {value!r} is no whole number or string.")
        if isinstance(value, float):
            return str(int(value))
        return str(value).removesuffix(".0") if _WHOLE.fullmatch(str(value)) else str(value)


def answer_rows(path: Path, text_keys: Sequence[str] = TEXT_KEYS) -> list[AnswerRow]:
    """Rows of answers as LLaVA, the benchmarks' authors, VLMEvalKit and lmms-eval write them.

    Raises:
        FileNotFoundError: no such file.
        ValueError: as of `as_answers`.
    """
    return as_answers(path, read_rows(path), text_keys)


def as_answers(
    path: Path, table: Iterable[Mapping[str, object]], text_keys: Sequence[str] = TEXT_KEYS
) -> list[AnswerRow]:
    """Rows of a table as rows of answers.

    lmms-eval logs the answer in `filtered_resps` and the data set's row in `doc`, whose fields
    then count as the row's.

    Raises:
        ValueError: a row without an answer, with one that is no string, or with the right one of a
            data table alone.
    """
    rows: list[AnswerRow] = []
    for number, fields in enumerate(table, start=1):
        where = f"{path}, row {number}"
        if "filtered_resps" in fields:
            doc = fields.get("doc")
            fields = {**fields, **(doc if isinstance(doc, dict) else {})}
            text = _only(fields["filtered_resps"])
        else:
            text = _field(where, fields, text_keys)
            _require_prediction(where, fields, text_keys)
        if not isinstance(text, str):
            raise ValueError(f"{where}: answer {text!r:.60} is no string.")
        rows.append(AnswerRow(where, fields, text))
    return rows


def _require_prediction(where: str, fields: Mapping[str, object], text_keys: Sequence[str]) -> None:
    table = [key for key in TABLE_KEYS if key in fields]
    if table and next(key for key in text_keys if key in fields) == "answer":
        raise ValueError(
            f"{where}: answer stands beside {' and '.join(table)}, so it is a data table's right "
            "answer; add a column prediction with the model's."
        )


def _only(value: object) -> object:
    """What lists of one item hold; lmms-eval nests an answer once or twice."""
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value


def answers_by_id(path: Path, *id_keys: str) -> Answers:
    """(question id, answer) pairs where a field of each row holds the question's id."""
    return [(row.identity(*id_keys), row.text) for row in answer_rows(path)]


def answers_to(words: Mapping[str, str], rows: Iterable[tuple[str, AnswerRow]]) -> Answers:
    """(question id, answer) pairs, after a look at what each row asked.

    Args:
        words: question id -> its own words (`misfit`).
        rows: with the ids of their questions; unknown ones are join_answers' to name.

    Raises:
        ValueError: a row asks something else than the question of its id.
    """
    pairs: list[tuple[str, str]] = []
    for identity, row in rows:
        found = misfit(row, words[identity]) if identity in words else None
        if found:
            raise misfit_error(row, f"has the id {identity} and {found}")
        pairs.append((identity, row.text))
    return pairs


def misfit(row: AnswerRow, words: str) -> str | None:
    """How a row asks something else than a question with these words; None where it does not.

    Tools put words of their own around a question, and tables leave out its hint and options: so
    one of both holds the other, blanks aside. A row that does not say what it asked fits.
    """
    words = " ".join(words.split())
    for key in ASKED_KEYS:
        text = row.fields.get(key)
        asked = " ".join(text.split()) if isinstance(text, str) else ""
        if words not in asked and asked not in words:
            return f"asks {asked[:80]!r}, the question is {words[:80]!r}"
    return None


def misfit_error(row: AnswerRow, found: str) -> ValueError:
    """The error of a row that belongs to another question."""
    return ValueError(
        f"{row.where}: {found}; the file belongs to another benchmark, language or version of the "
        "data?"
    )


def _field(where: str, fields: Mapping[str, object], keys: Sequence[str]) -> object:
    for key in keys:
        if key in fields:
            return fields[key]
    raise ValueError(f"{where}: none of the fields {', '.join(keys)}; it has {', '.join(fields)}.")


def some(ids: Sequence[str]) -> str:
    """The first ids, and how many more there are."""
    return ", ".join(ids[:5]) + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")


def join_answers(
    benchmark: LanguageBenchmark,
    questions: Sequence[Question],
    pairs: Answers,
    source: Path,
) -> tuple[list[Question], dict[str, str]]:
    """Match answers to questions by id: the questions that are answered, and id -> answer.

    A part of the benchmark (`LanguageBenchmark.part`) that has no answer at all is left out; a
    part that is answered in part is an error.

    Raises:
        ValueError: answers doubled, unknown or missing; names the ids.
    """
    doubled = [i for i, times in Counter(i for i, _ in pairs).items() if times > 1]
    if doubled:
        raise ValueError(f"{source}: answered more than once: {some(doubled)}; keep one of each.")
    answers = dict(pairs)
    known = {question.id for question in questions}
    unknown = [i for i in answers if i not in known]
    if unknown:
        raise ValueError(
            f"{source}: {len(unknown)} answers to questions that {benchmark.name} does not have: "
            f"{some(unknown)}; the file belongs to another version of the data?"
        )
    parts = {benchmark.part(question) for question in questions if question.id in answers}
    asked = [q for q in questions if benchmark.part(q) in parts] or questions
    missing = [question.id for question in asked if question.id not in answers]
    if missing:
        raise ValueError(
            f"{source}: {len(missing)} of {len(asked)} questions of {benchmark.name} have no "
            f"answer: {some(missing)}; a score over the rest would not be comparable."
        )
    if all(text and q.prompt.startswith(text) for q in asked for text in [answers[q.id]]):
        raise ValueError(f"{source}: repeats the questions; give the file of the answers to them.")
    return list(asked), answers
