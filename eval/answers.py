"""Reading files of answers and joining them to questions; nothing goes missing in silence."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from eval.benchmark import LanguageBenchmark, Question

TEXT_KEYS = ("text", "answer", "caption")
"""LLaVA and POPE's caption files say "text", Cambrian "answer", COCO results "caption"."""


def read_json_rows(path: Path) -> list[dict[str, object]]:
    """Read a JSON array, JSON lines or concatenated JSON objects, whatever the suffix says.

    The field ships the same data in all three forms under one name; ".gz" is unpacked.

    Raises:
        FileNotFoundError: no such file.
        ValueError: broken json or a row that is no object; names file and line.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; check the path.")
    raw = path.read_bytes()
    try:
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8-sig")
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError) as error:
        raise ValueError(f"{path}: not UTF-8 json ({error}); save it as UTF-8.") from error
    rows: list[dict[str, object]] = []
    for line, value in _values(path, text):
        items = value if isinstance(value, list) else [value]
        for item in items:
            if not isinstance(item, dict):
                raise ValueError(
                    f"{path}, line {line}: expected an object with fields, found {item!r:.60}."
                )
            rows.append(item)
    return rows


def _values(path: Path, text: str) -> Iterator[tuple[int, object]]:
    decoder = json.JSONDecoder()
    position, line = 0, 1
    while True:
        start = position
        while position < len(text) and text[position].isspace():
            position += 1
        line += text.count("\n", start, position)
        if position == len(text):
            return
        try:
            value, end = decoder.raw_decode(text, position)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{path}, line {error.lineno}: broken json ({error.msg}); "
                "repair or remove the line."
            ) from error
        yield line, value
        line += text.count("\n", position, end)
        position = end


def _field(path: Path, number: int, row: Mapping[str, object], keys: Sequence[str]) -> object:
    for key in keys:
        if key in row:
            return row[key]
    raise ValueError(
        f"{path}, row {number}: none of the fields {', '.join(keys)}; it has {', '.join(row)}."
    )


def read_answers(path: Path, benchmark: LanguageBenchmark) -> list[tuple[str, str]]:
    """(question id, answer) pairs of an answers file, in file order.

    Raises:
        ValueError: a row without an id or an answer, or with one of a wrong type.
    """
    pairs: list[tuple[str, str]] = []
    for number, row in enumerate(read_json_rows(path), start=1):
        identity = _field(path, number, row, benchmark.answer_keys)
        answer = _field(path, number, row, TEXT_KEYS)
        if isinstance(identity, bool) or not isinstance(identity, (int, str)):
            raise ValueError(f"{path}, row {number}: id {identity!r} is no number or string.")
        if not isinstance(answer, str):
            raise ValueError(f"{path}, row {number}: answer {answer!r:.60} is no string.")
        pairs.append((str(identity), answer))
    return pairs


def _some(ids: Sequence[str]) -> str:
    return ", ".join(ids[:5]) + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")


def join_answers(
    benchmark: LanguageBenchmark,
    questions: Sequence[Question],
    pairs: Sequence[tuple[str, str]],
    source: Path,
) -> tuple[list[Question], dict[str, str]]:
    """Match answers to questions by id: the questions that are answered, and id -> answer.

    A question without an answer is an error, unless the benchmark lets a foreign file choose
    its questions (CHAIR: any set of images); then only the answered questions come back.

    Raises:
        ValueError: answers doubled, unknown or missing; names the ids.
    """
    doubled = [i for i, times in Counter(i for i, _ in pairs).items() if times > 1]
    if doubled:
        raise ValueError(f"{source}: answered more than once: {_some(doubled)}; keep one of each.")
    answers = dict(pairs)
    known = {question.id for question in questions}
    unknown = [i for i in answers if i not in known]
    if unknown:
        raise ValueError(
            f"{source}: {len(unknown)} answers to questions that {benchmark.name} does not have: "
            f"{_some(unknown)}; the file belongs to another version of the data?"
        )
    missing = [question.id for question in questions if question.id not in answers]
    if not answers or (missing and not benchmark.answers_select):
        raise ValueError(
            f"{source}: {len(missing)} of {len(questions)} questions of {benchmark.name} have no "
            f"answer: {_some(missing)}; a score over the rest would not be comparable."
        )
    return [question for question in questions if question.id in answers], answers
