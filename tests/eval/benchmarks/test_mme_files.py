"""MME's files: both kinds of folders, every form of answers, and what is wrong with broken ones."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from eval.answers import join_answers
from eval.benchmarks.mme import Mme
from eval.pictures import check_images
from eval.result import point_metrics

MME = Mme()
WriteLines = Callable[[Path, Sequence[dict[str, object]]], None]


def answers_of(root: Path, path: Path) -> dict[str, str]:
    questions = MME.load(root)
    return join_answers(MME, questions, MME.read_answers(path, questions), path)[1]


def test_every_form_of_answers(mme_root: Path, tmp_path: Path, write_lines: WriteLines) -> None:
    questions = MME.load(mme_root)
    expected = {question.id: f"Yes, {number}" for number, question in enumerate(questions)}
    bare = [question.prompt.split("\n")[0] for question in questions]
    ours = [{"question_id": q.id, "prompt": q.prompt, "text": expected[q.id]} for q in questions]
    llava = [row | {"question_id": str(row["question_id"]).split("#")[0]} for row in ours]
    lmms = [
        {"doc_id": 0, "doc": {"question_id": row["question_id"], "category": q.category,
         "question": f"{text} Please answer yes or no."}, "filtered_resps": [row["text"]]}
        for row, q, text in zip(llava, questions, bare, strict=True)
    ]  # fmt: skip
    kit = [
        {"index": n, "category": q.category, "image_path": str(q.image), "answer": "Yes",
         "question": f"{text} Please answer yes or no.", "prediction": expected[q.id]}
        for n, (q, text) in enumerate(zip(questions, bare, strict=True))
    ]  # fmt: skip
    for number, rows in enumerate((ours, llava, lmms, kit, kit[::-1])):
        write_lines(tmp_path / f"{number}.jsonl", rows)
        assert answers_of(mme_root, tmp_path / f"{number}.jsonl") == expected


def tool_lines(root: Path, task: str) -> list[str]:
    return [
        f"{q.id.split('/')[1].split('#')[0]}\t{q.prompt.split(chr(10))[0]} Please answer yes or no."
        f"\t{q.label.title()}\tYes\n"
        for q in MME.load(root) if q.category == task
    ]  # fmt: skip


def test_the_tools_folder_file_and_a_bom(mme_root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "answers"
    folder.mkdir()
    for task in ("existence", "landmark"):
        text = "\ufeff" + "".join(tool_lines(mme_root, task)).replace("\n", "\r\n")
        (folder / f"{task}.txt").write_text(text, encoding="utf-8", newline="")
    assert set(answers_of(mme_root, folder).values()) == {"Yes"}
    assert len(answers_of(mme_root, folder / "landmark.txt")) == 2  # one task may stand alone
    # The tool's files are questions too, without pictures, also with answers in them.
    assert [q.prompt for q in MME.load(folder)] == [q.prompt for q in MME.load(mme_root)]
    assert "existence/a.jpg" in str(MME.load(folder)[0].image)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("existence.txt", "a.jpg\tIs there a cat?\tYes\n", "line 1: 3 fields between tabs, not 4"),
        (
            "existence.txt",
            "a.jpg\tIs there a cat?\tYes\tno\tyes\n",
            "line 1: a tab in the response",
        ),
        ("existence.txt", "a.jpg\tIs there a cat?\tYes\tno,\nit is not\n", "line 2: 1 fields"),
        ("existence.txt", "a.jpg\tIs there a cat?\tYes\tno,\rit is not\n", "line 2: 1 fields"),
        ("existence.txt", "a.jpg\tIs there a cat?\tNo\tno\n", "answer No is not asked of a.jpg"),
        ("existence.txt", "a.jpg\tIs there a cat?\tperhaps\tno\n", "neither Yes nor No"),
        ("existence.txt", "a.jpg\tIs there an ox?\tYes\tno\n", "another version"),
        ("existence.txt", "z.jpg\tIs there a cat?\tYes\tno\n", "not asked of z.jpg"),
        ("existence.txt", "a.jpg\tIs there a cat?\tYes\tno\n" * 2, "more than once: existence/a"),
        ("existence.txt", "a.jpg\tIs there a cat?\tYes\tno\n", "1 of 2 questions of mme have no"),
        ("existence.txt", "", "6 of 6 questions of mme have no answer"),
        ("artwork.txt", "a.jpg\tIs there a cat?\tYes\tno\n", "not asked of a.jpg"),
        ("pope.txt", "a.jpg\tIs there a cat?\tYes\tno\n", "one <task>.txt for each task, found"),
        ("a.jsonl", '{"question_id": "existence/a.jpg", "text": "Yes"}', "fields prompt, question"),
        (
            "a.jsonl",
            '{"question_id": "existence/a.jpg", "question": "Is there a cat?", "answer": "Yes"}',
            "none of the fields text, prediction",
        ),
        (
            "a.jsonl",
            '{"question_id": 7, "prompt": "?", "text": "Yes"}',
            "id '7' names no task of MME",
        ),
        ("a.jsonl", '{"prompt": "?", "text": "Yes"}', "none of the fields question_id, image_path"),
        ("a.jsonl", '{"question_id": "existence/a.jpg", "prompt":', "line 1: broken json"),
        ("a.jsonl", "", "6 of 6 questions of mme have no answer"),
    ],
)
def test_bad_answers(mme_root: Path, tmp_path: Path, name: str, text: str, message: str) -> None:
    path = tmp_path / "answers" / name
    path.parent.mkdir()
    path.write_text(text, encoding="utf-8", newline="")
    with pytest.raises(ValueError, match=message):
        answers_of(mme_root, path)


def test_a_strange_file_among_the_tools(mme_root: Path, tmp_path: Path) -> None:
    (tmp_path / "answers").mkdir()
    with pytest.raises(ValueError, match="found none"):
        answers_of(mme_root, tmp_path / "answers")
    (tmp_path / "answers/readme.txt").write_text("hello")
    with pytest.raises(ValueError, match=r"found readme\.txt"):
        answers_of(mme_root, tmp_path / "answers")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Is it? Please answer yes or no.\tYes\n", "1 lines; MME asks two"),
        ("Is it?\tYes\nIs it not?\tmaybe\n", "line 2: right answer 'maybe' is neither"),
        ("Is it?\tYes\nIs it not?\n", "line 2: 1 fields"),
        ("Is it?\tYes\nIs  it? Please answer yes or no.\tNo\n", "1 questions stand twice"),
    ],
)
def test_bad_questions(mme_root: Path, text: str, message: str) -> None:
    (mme_root / "MME_Benchmark_release_version/existence/a.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        MME.load(mme_root)


def test_odd_tool_file_and_no_data(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no MME here"):
        MME.load(tmp_path)
    (tmp_path / "color.txt").write_text("a.jpg\tIs it red?\tYes\n")
    with pytest.raises(ValueError, match=r"pictures without two questions: a\.jpg"):
        MME.load(tmp_path)


def test_a_missing_picture_is_told_and_counted(
    mme_root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = mme_root / "MME_Benchmark_release_version/existence"
    (folder / "b.jpg").unlink()
    with caplog.at_level(logging.WARNING):
        questions = MME.load(mme_root)
    assert len(questions) == 4
    assert "b.jpg: no such picture; its questions are left out" in caplog.text
    assert "MME existence: 2 questions, where the eval tool has 60" in caplog.text
    units = MME.score(mme_root, questions, {question.id: "Yes" for question in questions})
    assert point_metrics(MME, units)["existence/questions"] == 2
    # Where no picture is there at all, the texts still score answers, and no model is asked.
    (folder / "a.jpg").unlink()
    assert len(MME.load(mme_root)) == 6


def test_a_folder_half_unpacked_is_no_smaller_benchmark(mme_root: Path) -> None:
    folder = mme_root / "MME_Benchmark_release_version/existence"
    for name in "cdefg":
        (folder / f"{name}.txt").write_text("Is it?\tYes\nIs it not?\tNo\n")
    questions = MME.load(mme_root)
    assert len(questions) == 16
    with pytest.raises(FileNotFoundError, match=r"existence/c\.jpg: no such picture \(5 of"):
        check_images(mme_root, [str(question.image) for question in questions])


def test_the_zips_inner_folder(mme_root: Path) -> None:
    before = [question.id for question in MME.load(mme_root)]
    release = mme_root / "MME_Benchmark_release_version"
    release.rename(mme_root / "MME_Benchmark")
    release.mkdir()
    (mme_root / "MME_Benchmark").rename(release / "MME_Benchmark")
    assert [question.id for question in MME.load(mme_root)] == before
    assert [question.id for question in MME.load(release / "MME_Benchmark")] == before
