"""MMBench's tables, every form of answers, and what broken ones say."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from openpyxl import Workbook

from eval.answers import join_answers
from eval.benchmarks.mmbench import MMBENCH_CN, MmBench

MMBENCH = MmBench()
WriteLines = Callable[[Path, Sequence[dict[str, object]]], None]
Table = list[dict[str, str]]


def read_tsv(root: Path) -> tuple[Path, Table]:
    (path,) = root.glob("*.tsv")
    with path.open(newline="", encoding="utf-8") as file:
        return path, list(csv.DictReader(file, delimiter="\t"))


def save_tsv(path: Path, rows: Table) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0], delimiter="\t")
        writer.writeheader()
        writer.writerows(rows)


def answers_of(root: Path, path: Path, benchmark: MmBench = MMBENCH) -> dict[str, str]:
    questions = benchmark.load(root)
    return join_answers(benchmark, questions, benchmark.read_answers(path, questions), path)[1]


def test_every_form_of_answers(
    mmbench_en_root: Path, tmp_path: Path, write_lines: WriteLines
) -> None:
    questions = MMBENCH.load(mmbench_en_root)
    table = read_tsv(mmbench_en_root)[1]
    expected = {question.id: f"answer {question.id}" for question in questions}
    ours = [{"question_id": q.id, "prompt": q.prompt, "text": expected[q.id]} for q in questions]
    llava = [
        {"question_id": int(q.id), "round_id": 0, "text": expected[q.id],
         "prompt": q.prompt.rpartition("\n")[0]}
        for q in questions
    ]  # fmt: skip
    lmms = [
        {"doc": {"index": row["index"], "question": row["question"], "answer": row["answer"]},
         "filtered_resps": [expected[row["index"]]]}
        for row in table
    ]  # fmt: skip
    for number, rows in enumerate((ours, ours[::-1], llava, lmms)):
        write_lines(tmp_path / f"{number}.jsonl", rows)
        assert answers_of(mmbench_en_root, tmp_path / f"{number}.jsonl") == expected
    # LLaVA's upload and VLMEvalKit's table are both xlsx with index, question and prediction.
    book = Workbook()
    sheet = book.worksheets[0]
    sheet.append(["index", "question", "A", "B", "answer", "prediction"])
    for row in table:
        text = row["question"].replace(" ", "_x000D_\n")
        sheet.append([int(row["index"]), text, row["A"], row["B"], row["answer"],
                      expected[row["index"]]])  # fmt: skip
    book.save(tmp_path / "upload.xlsx")
    assert answers_of(mmbench_en_root, tmp_path / "upload.xlsx") == expected


IDS = ["1", "1000001", "2", "1000002", "2000002"]
ROWS = [{"question_id": identity, "text": "A"} for identity in IDS]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", "", "5 of 5 questions of mmbench_en have no answer"),
        (
            "a.jsonl",
            json.dumps(ROWS[:-1]),
            "1 of 5 questions of mmbench_en have no answer: 2000002",
        ),
        ("a.jsonl", json.dumps(ROWS[::2]), "no answer: 1000001, 1000002"),
        ("a.jsonl", json.dumps([*ROWS, ROWS[2]]), "answered more than once: 2"),
        ("a.jsonl", json.dumps([*ROWS, {"index": 3, "text": ""}]), "mmbench_en does not have: 3"),
        ("a.jsonl", json.dumps([{"text": "A"}]), "none of the fields question_id, index"),
        ("a.jsonl", json.dumps([{"index": 1, "answer": "A"}]), "fields text, prediction"),
        ("a.jsonl", json.dumps([{"index": 1, "text": ["A"]}]), "is no string"),
        ("a.jsonl", json.dumps([{"index": 1.5, "text": "A"}]), "is no whole number or string"),
        (
            "a.jsonl",
            json.dumps([ROWS[0] | {"prompt": "这是猫吗?\nA. 猫\nB. 狗"}]),
            "has the id 1 and asks .* belongs to another benchmark, language or version",
        ),
        ("a.jsonl", json.dumps([ROWS[0] | {"question": "Which colour?"}]), "benchmark, language"),
        ("a.jsonl", '{"question_id": 1, "text": "A"}\n{"question_id"', "line 2: broken json"),
        ("a.tsv", "index\tprediction\n1\tA\tB\n", "line 2: 3 fields where the header has 2"),
        ("a.tsv", "index\tprediction\n1\t\n", "4 of 5 questions"),
        ("a.tsv", "number\tprediction\n1\tA\n", "none of the fields question_id, index"),
        ("a.xlsx", "no sheet", "no readable xlsx"),
    ],
)
def test_bad_answers(
    mmbench_en_root: Path, tmp_path: Path, name: str, text: str, message: str
) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        answers_of(mmbench_en_root, path)


def test_a_byte_order_mark_and_latin_answers(mmbench_en_root: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    text = "index\tprediction\n" + "".join(f"{identity}\té\n" for identity in IDS)
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert set(answers_of(mmbench_en_root, path).values()) == {"é"}
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match="not UTF-8 text"):
        answers_of(mmbench_en_root, path)


def test_english_answers_on_chinese_questions(mmbench_cn_root: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps([ROWS[2] | {"question": "Which colour?"}]))
    with pytest.raises(ValueError, match="belongs to another benchmark, language"):
        answers_of(mmbench_cn_root, path, MMBENCH_CN)


def drop(*names: str) -> Callable[[Table], Table]:
    return lambda rows: [{k: v for k, v in row.items() if k not in names} for row in rows]


def change(number: int, **fields: str) -> Callable[[Table], Table]:
    return lambda rows: [row | fields if n == number else row for n, row in enumerate(rows)]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (drop("answer"), "keeps those of its test split to itself"),
        (lambda rows: [row | {"answer": ""} for row in rows], "test split to itself"),
        (drop("image", "A"), "no column A, image"),
        (change(1, answer=""), "row 2: right answer '' is none of A, B"),
        (change(1, answer="E"), "row 2: right answer 'E' is none of"),
        (change(1, index="x"), "row 2: index 'x' is no number"),
        (lambda rows: [*rows, rows[0]], "1 indices stand twice"),
        (change(0, index="7"), "row 2: picture '1' is neither base64"),
        (change(1, image=""), "row 2: picture '' is neither base64"),
        (change(1, image="1000001"), "row 2: picture '1000001' is neither base64"),
        (lambda rows: [row for row in rows if int(row["index"]) < 10], "no rotated copies"),
        (lambda rows: [*rows[2:], rows[0] | {"index": "1000001"}], "that are missing: 1"),
    ],
)
def test_bad_tables(mmbench_en_root: Path, spoil: Callable[[Table], Table], message: str) -> None:
    path, rows = read_tsv(mmbench_en_root)
    save_tsv(path, spoil(rows))
    with pytest.raises(ValueError, match=message):
        MMBENCH.load(mmbench_en_root)


def test_which_table(mmbench_en_root: Path, mmbench_cn_root: Path) -> None:
    (path,) = mmbench_en_root.glob("*.tsv")
    path.with_name("MMBench_DEV_EN.tsv").write_bytes(path.read_bytes())
    with pytest.raises(ValueError, match="ask different questions; keep one"):
        MMBENCH.load(mmbench_en_root)
    path.unlink()
    assert len(MMBENCH.load(mmbench_en_root)) == 5
    with pytest.raises(FileNotFoundError, match=r"must hold mmbench_dev_20230712\.tsv or "):
        MMBENCH.load(mmbench_cn_root)
    (path,) = mmbench_cn_root.glob("*.tsv")
    path.rename(path.with_name("mmbench_test_cn_20231003.tsv"))
    with pytest.raises(ValueError, match="test split to itself"):
        MMBENCH_CN.load(mmbench_cn_root)
    path.with_name("mmbench_dev_cn_20231003.tsv").write_text("index\tquestion")
    with pytest.raises(ValueError, match=r"no column index, question, A"):
        MMBENCH_CN.load(mmbench_cn_root)


def test_what_a_table_lacks_is_told(
    mmbench_en_root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, rows = read_tsv(mmbench_en_root)
    save_tsv(path, change(2, C="None")(rows[:-1]))
    with caplog.at_level(logging.WARNING):
        questions = MMBENCH.load(mmbench_en_root)
    assert "not asked once per option: 2;" not in caplog.text  # two options are left, two turns
    assert "the right option is an empty cell and not shown: 2;" in caplog.text
    assert "C." not in questions[2].prompt
    save_tsv(path, rows[:-1])
    with caplog.at_level(logging.WARNING):
        MMBENCH.load(mmbench_en_root)
    assert "not asked once per option: 2;" in caplog.text


@pytest.mark.parametrize("text", ["nan", "NaN", "None", "NULL", "N/A", ""])
def test_empty_cells_are_those_of_pandas(mmbench_en_root: Path, text: str) -> None:
    path, rows = read_tsv(mmbench_en_root)
    save_tsv(path, change(0, hint=text)(rows))
    assert MMBENCH.load(mmbench_en_root)[0].prompt.startswith('Is it a "cat"?\nA. a cat')
