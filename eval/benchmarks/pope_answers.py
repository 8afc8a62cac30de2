"""Whose answer a row is, in every form in which answers to POPE are released.

LLaVA, and this project, number the three splits in one row of ids. Everybody else writes a file
per split: with ids that begin at 1 in each (VCD, OPERA), or without ids, in the order of the
questions (POPE's own evaluate.py). VLMEvalKit and lmms-eval name the split in a column. As LLaVA's
adversarial ids are 1 to 3000 too, such ids alone say nothing: what the rows ask decides.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from eval.answers import ANSWER_TOO, AnswerRow, answer_rows, misfit, misfit_error
from eval.benchmark import Answers, Question
from eval.rows import read_rows

SPLITS = ("random", "popular", "adversarial")
# LLaVA's llava_pope_test.jsonl numbers the three files in one row of ids by adding these.
ID_OFFSET = {"adversarial": 0, "random": 10_000_000, "popular": 20_000_000}

_ASKED = re.compile(r"Is there an? [^?]+\?")
_ADVICE = "give the file of one split alone, or rows with LLaVA's ids, for this version of the data"


def read_answers(path: Path, questions: Sequence[Question]) -> Answers:
    """Pairs of question id and answer.

    Raises:
        ValueError: nothing says which split a row belongs to, or it asks something else than its
            question.
    """
    rows = _rows(path)
    if not rows:
        return []
    if any("category" in row.fields for row in rows):
        return _by_category(rows, questions)
    if not any("question_id" in row.fields for row in rows) and _asked(rows[0].fields):
        return _of_one_split(path, rows, _in_order(len(rows), questions))
    ids = [row.identity("question_id") for row in rows]
    known = {question.id: question for question in questions}
    if any(int(i) >= ID_OFFSET["random"] for i in ids if i.isdecimal()):
        for row, identity in zip(rows, ids, strict=True):
            _confirm(row, known.get(identity))
        return [(i, row.text) for i, row in zip(ids, rows, strict=True)]
    of_split = {split: [known.get(_id_in(split, i)) for i in ids] for split in SPLITS}
    return _of_one_split(path, rows, of_split)


def _rows(path: Path) -> list[AnswerRow]:
    """Rows of answers. In POPE's own rows `text` is the question, with the answer beside it."""
    texts = [fields.get("text") for fields in read_rows(path)]
    if not texts or not all(isinstance(t, str) and _ASKED.fullmatch(t.strip()) for t in texts):
        return answer_rows(path, ANSWER_TOO)
    rows = answer_rows(path, [key for key in ANSWER_TOO if key != "text"])
    return [
        AnswerRow(row.where, {"question": row.fields["text"], **row.fields}, row.text)
        for row in rows
    ]


def _id_in(split: str, identity: str) -> str:
    return str(ID_OFFSET[split] + int(identity)) if identity.isdecimal() else identity


def _asked(fields: Mapping[str, object]) -> str | None:
    """The question in a row's own words, without what prompts put around it."""
    for key in ("question", "prompt"):
        found = _ASKED.search(str(fields.get(key)))
        if found:
            return found[0]
    return None


def _picture(fields: Mapping[str, object]) -> str | None:
    """Name of a row's picture without folder and suffix; lmms-eval and VLMEvalKit drop those."""
    for key in ("image_path", "image_source", "image"):
        value = fields.get(key)
        if isinstance(value, str) and value:
            return PurePosixPath(value).stem
    return None


def _misfit(row: AnswerRow, question: Question | None) -> str | None:
    """In what a row and the question differ; None where nothing speaks against the pair."""
    if question is None:
        return "there is no such question"
    found = misfit(row, _asked({"prompt": question.prompt}) or question.prompt)
    if found:
        return found
    picture, shown = _picture(row.fields), _picture({"image": question.image})
    if picture is not None and picture != shown:
        return f"shows {picture!r:.60}, the question {shown!r:.60}"
    return None


def _confirm(row: AnswerRow, question: Question | None) -> None:
    """Unknown ids are join_answers' to name, all together."""
    found = question and _misfit(row, question)
    if found:
        raise misfit_error(row, found)


def _in_order(rows: int, questions: Iterable[Question]) -> dict[str, list[Question | None]]:
    """Per split of so many rows the questions in the order of its file."""
    of_split: defaultdict[str, list[Question | None]] = defaultdict(list)
    for question in questions:
        of_split[question.category].append(question)
    return {split: asked for split, asked in of_split.items() if len(asked) == rows}


def _of_one_split(
    path: Path, rows: Sequence[AnswerRow], of_split: Mapping[str, Sequence[Question | None]]
) -> Answers:
    """Pairs, for the one split whose questions the rows ask."""
    silent = [row for row in rows if _asked(row.fields) is None and _picture(row.fields) is None]
    if silent:
        raise ValueError(
            f"{silent[0].where}: holds neither question nor picture, and its id does not say which "
            f"split it belongs to (each has one of its own); {_ADVICE}."
        )
    misfits: dict[str, str] = {}
    for split, asked in of_split.items():
        for row, question in zip(rows, asked, strict=True):
            found = _misfit(row, question)
            if found:
                misfits[split] = f"{split}: {row.where.rpartition(', ')[2]} {found}"
                break
    fitting = [split for split in of_split if split not in misfits]
    if len(fitting) != 1:
        found = "; ".join(misfits.values()) or f"{len(rows)} rows"
        raise ValueError(
            f"{path}: its rows fit {' and '.join(fitting) or 'no split'} ({found}); {_ADVICE}."
        )
    return [(q.id, row.text) for q, row in zip(of_split[fitting[0]], rows, strict=True) if q]


def _by_category(rows: Sequence[AnswerRow], questions: Sequence[Question]) -> Answers:
    """Rows that name their split. VLMEvalKit asks a question of several splits once."""
    known = {question.id: question for question in questions}
    same: defaultdict[tuple[str, str | None, str | None], list[str]] = defaultdict(list)
    for question in questions:
        fields = {"prompt": question.prompt, "image": question.image}
        same[question.category, _picture(fields), _asked(fields)].append(question.id)
    pairs: list[tuple[str, str]] = []
    for row in rows:
        for split in str(row.fields.get("category")).split(","):
            if split not in SPLITS:
                raise ValueError(
                    f"{row.where}: category {split!r:.40} is none of {', '.join(SPLITS)}."
                )
            if "question_id" in row.fields:
                own = known.get(row.identity("question_id"))
                whole = own is not None and own.category == split  # LLaVA's id
                ids = [own.id if own and whole else _id_in(split, row.identity("question_id"))]
                _confirm(row, known.get(ids[0]))
            else:
                asked, picture = _asked(row.fields), _picture(row.fields)
                ids = same.get((split, picture, asked), [])
                if not ids:
                    raise ValueError(
                        f"{row.where}: there is no question {asked!r:.80} about picture "
                        f"{picture!r:.60} in {split}; the file belongs to another version?"
                    )
            pairs += [(i, row.text) for i in ids]
    return pairs
