"""HallusionBench's files of answers and verdicts: every form, and every way to be a wrong one."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from openpyxl import Workbook

from eval import run
from eval.benchmarks.hallusionbench import HallusionBench, VlmEvalKitHallusionBench
from eval.benchmarks.hallusionbench_files import contains_yes, read_verdict, vlmevalkit_word
from eval.result import point_metrics, read_result

Fields = dict[str, object]
OFFICIAL, VLMEVALKIT = HallusionBench(), VlmEvalKitHallusionBench()


@pytest.fixture
def rows(hallusionbench_root: Path) -> list[Fields]:
    """The official rows, all answered and judged correct."""
    data = json.loads((hallusionbench_root / "HallusionBench.json").read_text())
    verdict = {"gpt4v_output": "Well", "gpt4v_output_human_check": "1"}
    return [row | verdict for row in data]


def save(path: Path, rows: Sequence[Fields]) -> Path:
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def call(root: Path, answers: Path, *more: object, benchmark: str = "hallusionbench") -> int:
    given = ["--benchmark", benchmark, "--data-root", root, "--answers", answers, *more]
    return run.main([str(argument) for argument in given])


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("0", 0), ("1", 1), (" 2 ", 2), ("Correct.", 1), ("The prediction is INCORRECT", 0),
        ("“correct”", 1), ("unclear", 2), ("", 2), ("not correct", 1), ("正确", 2), ("10", 2),
        ("correct" * 150_000, 1),
    ],
)  # fmt: skip
def test_verdicts_as_the_official_script_reads_them(reply: str, verdict: int) -> None:
    assert read_verdict(reply) == verdict


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        ("Yes", "yes"), ("NO.", "no"), ("Yes, it is", "yes"), ("no,it is not", "no"),
        ("(yes)", "yes"), ("Yes/No", None), ("yes and no", None), ("", None), ("是", None),
        ("nope", None), ("yes!", "yes"), ("line one\nNo", "no"), ("It is so.Yes", None),
        # Marks that the rule does not know stay.
        ("**Yes**", None), ("No: never", None), ("Answer: yes", "yes"), ("'yes'", None),
        # Beside a blank, or with 1,000 anywhere, a mark goes without a trace.
        ("yes-ish", "yes"), ("yes-ish or - not", None), ("yes/certainly", "yes"),
        ("yes/certainly 1,000", None),
        # A full stop goes unless a digit follows; the first 32 only.
        ("no.5", None), ("." * 31 + " yes.", "yes"), (". " * 32 + "yes.", None),
        ("yes " * 250_000, "yes"),
    ],
)  # fmt: skip
def test_vlmevalkits_words(answer: str, word: str | None) -> None:
    assert vlmevalkit_word(answer) == word


def test_lmms_evals_word() -> None:
    assert [contains_yes(a) for a in ("YES", "eyes", "No", "")] == ["yes", "yes", "no", "no"]


def test_answers_and_verdicts_side_by_side(rows: list[Fields], tmp_path: Path) -> None:
    path = save(tmp_path / "a.json", rows)
    questions = OFFICIAL.load(tmp_path / "hallusionbench")
    assert OFFICIAL.read_answers(path, questions) == [(q.id, "Well") for q in questions]
    assert OFFICIAL.read_verdicts(path, questions) == [(q.id, "1") for q in questions]
    # Words, as a judge may have put them, and evaluation.py's column for any model.
    renamed = [
        {k: v for k, v in row.items() if not k.startswith("gpt4v")}
        | {"model_prediction": "Yes", "gpt4v_output_gpt_check": "Incorrect"}
        for row in rows
    ]
    path = save(tmp_path / "b.json", renamed)
    assert OFFICIAL.read_answers(path, questions) == [(q.id, "Yes") for q in questions]
    assert OFFICIAL.read_verdicts(path, questions) == [(q.id, "Incorrect") for q in questions]


def test_verdicts_win_over_words(
    hallusionbench_root: Path, rows: list[Fields], tmp_path: Path
) -> None:
    """ "Well" says neither yes nor no; the verdicts beside it say that all are right."""
    assert call(hallusionbench_root, save(tmp_path / "a.json", rows), "--output", tmp_path) == 0
    result = read_result(tmp_path / "hallusionbench.json")
    assert point_metrics(OFFICIAL, result.units)["accuracy"] == 1
    unjudged = [{k: v for k, v in row.items() if not k.endswith("_check")} for row in rows]
    assert call(hallusionbench_root, save(tmp_path / "a.json", unjudged), "--output", tmp_path) == 0
    result = read_result(tmp_path / "hallusionbench.json")
    metrics = point_metrics(OFFICIAL, result.units)
    assert result.provenance["judge"] == {"name": "none, a rule"}
    assert (metrics["accuracy"], metrics["unclear"]) == (pytest.approx(1 / 7), 1)


def test_our_own_files(hallusionbench_root: Path, tmp_path: Path) -> None:
    """Answers and replies of a judge have the same fields; the prompt tells them apart."""
    questions = OFFICIAL.load(hallusionbench_root)
    answers = {question.id: "Well" for question in questions}
    given: list[Fields] = [
        {"question_id": q.id, "prompt": q.prompt, "text": "Well"} for q in questions
    ]
    path = save(tmp_path / "a.jsonl", given)
    assert OFFICIAL.read_answers(path, questions) == list(answers.items())
    assert OFFICIAL.read_verdicts(path, questions) == []
    asked = OFFICIAL.judge_questions(hallusionbench_root, questions, answers)
    replies: list[Fields] = [
        {"question_id": q.id, "prompt": q.prompt, "text": "correct"} for q in asked
    ]
    verdicts = save(tmp_path / "v.jsonl", replies)
    assert OFFICIAL.read_verdicts(verdicts, questions) == [(q.id, "correct") for q in questions]
    output = tmp_path / "out"
    assert call(hallusionbench_root, path, "--verdicts", verdicts, "--output", output) == 0
    result = read_result(output / "hallusionbench.json")
    assert point_metrics(OFFICIAL, result.units)["accuracy"] == 1


def vlmevalkit_rows(rows: Sequence[Fields], **more: object) -> list[Fields]:
    return [
        {
            "index": "_".join(str(row[k]) for k in ("category", "subcategory", "visual_input",
                                                     "set_id", "figure_id", "question_id")),
            "question": row["question"],
            "answer": "Yes" if row["gt_answer"] == "1" else "No",
            "category": row["category"],
            "l2-category": f"{row['category']}_{row['subcategory']}",
            "prediction": f"It is {row['gt_answer']}",
        }
        | more
        for row in rows
        if row["visual_input"] != "0"
    ]  # fmt: skip


@pytest.mark.parametrize("suffix", ["tsv", "xlsx"])
def test_vlmevalkits_files(rows: list[Fields], tmp_path: Path, suffix: str) -> None:
    table = vlmevalkit_rows(rows)
    path = tmp_path / f"model_HallusionBench.{suffix}"
    if suffix == "tsv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(table[0]), delimiter="\t")
            writer.writeheader()
            writer.writerows(table)
    else:
        book = Workbook()
        sheet = book.worksheets[0]
        for line in [list(table[0]), *(list(row.values()) for row in table)]:
            sheet.append(line)
        book.save(path)
    questions = VLMEVALKIT.load(tmp_path / "hallusionbench")
    expected = [(q.id, f"It is {int(q.label == 'yes')}") for q in questions]
    assert VLMEVALKIT.read_answers(path, questions) == expected
    assert VLMEVALKIT.read_verdicts(path, questions) == []


def test_vlmevalkits_extracted_words_are_verdicts(
    hallusionbench_root: Path, rows: list[Fields], tmp_path: Path
) -> None:
    table = [row | {"extracted": row["answer"]} for row in vlmevalkit_rows(rows)]
    path = save(tmp_path / "a_auxmatch.json", table)
    name = "hallusionbench_vlmevalkit"
    assert call(hallusionbench_root, path, "--output", tmp_path, benchmark=name) == 0
    result = read_result(tmp_path / f"{name}.json")
    assert point_metrics(VLMEVALKIT, result.units)["average"] == 1
    table[0]["extracted"] = "Maybe"
    with pytest.raises(ValueError, match="row 1: extracted 'Maybe' is none of Yes, No, Unknown"):
        VLMEVALKIT.read_verdicts(save(path, table), VLMEVALKIT.load(hallusionbench_root))


def test_questions_without_picture_are_left_out_where_the_rule_does_not_ask_them(
    rows: list[Fields], tmp_path: Path
) -> None:
    questions = VLMEVALKIT.load(tmp_path / "hallusionbench")
    answers = VLMEVALKIT.read_answers(save(tmp_path / "a.json", rows), questions)
    assert [i for i, _ in answers] == [question.id for question in questions]


def test_lmms_evals_samples(rows: list[Fields], tmp_path: Path) -> None:
    samples = [
        {"doc_id": n, "doc": {k: v for k, v in row.items() if not k.startswith("gpt4v")},
         "resps": [["No "]], "filtered_resps": ["No"]}
        for n, row in enumerate(rows) if row["visual_input"] != "0"
    ]  # fmt: skip
    path = tmp_path / "samples.jsonl"
    path.write_text("".join(json.dumps(sample) + "\n" for sample in samples))
    questions = VLMEVALKIT.load(tmp_path / "hallusionbench")
    assert VLMEVALKIT.read_answers(path, questions) == [(q.id, "No") for q in questions]


def without(row: Fields, *keys: str) -> Fields:
    return {key: value for key, value in row.items() if key not in keys}


BAD = {
    "answered twice": (lambda rows: [*rows, rows[0]], "answered more than once: VD_illusion_0_0_0"),
    "unknown id": (
        lambda rows: [rows[0] | {"set_id": "99"}, *rows[1:]],
        "1 answers to questions that hallusionbench does not have: VD_illusion_99_0_0",
    ),
    "no id": (lambda rows: [without(rows[0], "category"), *rows[1:]], "row 1: none of the fields"),
    "id of another kind": (lambda rows: [rows[0] | {"set_id": None}], "row 1: id None is no"),
    "swapped questions": (
        lambda rows: [rows[0] | {"question": rows[1]["question"]}],
        "row 1: has the id VD_illusion_0_0_0 and asks 'Is A longer?', the question is 'Are they eq",
    ),
    "no answer in a row": (
        lambda rows: [without(rows[0], "gpt4v_output"), *rows[1:]],
        "row 1: none of the fields text, prediction",
    ),
    "answer no text": (lambda rows: [rows[0] | {"gpt4v_output": 1}], "row 1: answer 1 is no"),
    "answer null": (lambda rows: [rows[0] | {"gpt4v_output": None}], "row 1: answer None is no"),
    "two models": (
        lambda rows: [row | {"model_prediction": "Yes"} for row in rows],
        "answers of several models (gpt4v_output, model_prediction); keep one",
    ),
    "two judges": (
        lambda rows: [row | {"gpt4v_output_gpt_check": "1"} for row in rows],
        "verdicts of several judges (gpt4v_output_human_check, gpt4v_output_gpt_check)",
    ),
    "another model's verdicts": (
        lambda rows: [without(row, "gpt4v_output") | {"model_prediction": "No"} for row in rows],
        "verdicts in gpt4v_output_human_check, answers in model_prediction",
    ),
    "no verdict in a row": (
        lambda rows: [without(rows[0], "gpt4v_output_human_check"), *rows[1:]],
        "row 1: gpt4v_output_human_check '' is neither 0, 1 or 2 nor",
    ),
    "verdict 3": (
        lambda rows: [*rows[:6], rows[6] | {"gpt4v_output_human_check": 3}],
        "row 7: gpt4v_output_human_check '3' is neither",
    ),
    "verdict true": (
        lambda rows: [rows[0] | {"gpt4v_output_human_check": True}],
        "row 1: gpt4v_output_human_check 'True' is neither",
    ),
    "no rows": (lambda rows: [], "7 of 7 questions of hallusionbench have no answer"),
    "the questions themselves": (
        lambda rows: [without(row, "gpt4v_output", "gpt4v_output_human_check") for row in rows],
        "row 1: none of the fields text, prediction",
    ),
    "an index of another table": (
        lambda rows: [{"index": "VD_illusion_0_0", "prediction": "Yes"}],
        "row 1: index 'VD_illusion_0_0' is none of VLMEvalKit's",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files(
    hallusionbench_root: Path,
    rows: list[Fields],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    case: str,
) -> None:
    broken, message = BAD[case]
    assert call(hallusionbench_root, save(tmp_path / "a.json", broken(rows))) == 1
    assert message in " ".join(capsys.readouterr().err.split())


def test_broken_line_and_bom(
    hallusionbench_root: Path,
    rows: list[Fields],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "a.jsonl"
    lines = [json.dumps(row) for row in rows]
    path.write_text("\ufeff" + "\r\n".join(lines), encoding="utf-8")
    assert call(hallusionbench_root, path) == 0
    path.write_text("\n".join([*lines[:3], lines[3][:40], *lines[4:]]))
    assert call(hallusionbench_root, path) == 1
    assert "line 4: broken json" in capsys.readouterr().err


def test_missing_verdicts_and_wrong_files_of_verdicts(
    hallusionbench_root: Path,
    rows: list[Fields],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    answers = save(
        tmp_path / "a.json",
        [{"question_id": q.id, "text": "Yes"} for q in OFFICIAL.load(hallusionbench_root)],
    )

    def refusal(verdicts: Sequence[Fields]) -> str:
        path = save(tmp_path / "v.json", verdicts)
        assert call(hallusionbench_root, answers, "--verdicts", path) == 1
        return " ".join(capsys.readouterr().err.split())

    assert "1 of 7 answers have no verdict: VS_chart_0_2_0" in refusal(rows[:6])
    assert "judged more than once: VD_illusion_0_0_0" in refusal([*rows, rows[0]])
    assert "1 verdicts on questions that hallusionbench does not have" in refusal(
        [*rows, rows[0] | {"set_id": "8"}]
    )
    unjudged = [without(row, "gpt4v_output_human_check") for row in rows]
    assert "holds no verdicts on HallusionBench; check --verdicts" in refusal(unjudged)
    assert "asks 'Another?', the question is" in refusal([rows[0] | {"question": "Another?"}])


def test_order_blanks_length_and_language_do_not_matter(
    hallusionbench_root: Path, rows: list[Fields], tmp_path: Path
) -> None:
    texts = ["", "はい", "yes " * 300_000, "No", "Ja", "YES", "\n no \n"]
    odd = [
        row | {"gpt4v_output": text, "subcategory": f"{row['subcategory']} "}
        for row, text in zip(rows, texts, strict=True)
    ]
    path = save(
        tmp_path / "a.json", [without(row, "gpt4v_output_human_check") for row in odd][::-1]
    )
    questions = OFFICIAL.load(hallusionbench_root)
    answers = dict(OFFICIAL.read_answers(path, questions))
    units = OFFICIAL.score(hallusionbench_root, questions, answers)
    assert [unit.reading for unit in units] == [
        "unclear", "unclear", "incorrect", "incorrect", "unclear", "correct", "correct"
    ]  # fmt: skip
