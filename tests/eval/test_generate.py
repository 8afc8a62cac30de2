"""Asking: buckets, streaming, resuming after a kill, failures that stop with the row."""

from __future__ import annotations

import json
import weakref
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image

from eval.benchmark import Question
from eval.generate import generate_answers, plan

MADE_BY: dict[str, object] = {"model": {"sha256": "m"}, "data": {"q": "d"}}


class Parrot:
    """Answers with the prompt's length; keeps what it was asked; fails on request."""

    def __init__(self, fail_on: str | None = None) -> None:
        self.asked: list[list[str]] = []
        self.fail_on = fail_on

    def answer_batch(
        self, pairs: Sequence[tuple[Image.Image | None, str]], *, max_new_tokens: int
    ) -> list[str]:
        prompts = [prompt for _, prompt in pairs]
        if self.fail_on in prompts:
            raise ValueError("out of paper")
        self.asked.append(prompts)
        sizes = [0 if image is None else image.width for image, _ in pairs]
        return [f"{len(p)} {max_new_tokens} {s}" for p, s in zip(prompts, sizes, strict=True)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    return tmp_path


def questions(count: int, image: str | None = "a.png") -> list[Question]:
    return [Question(str(n), "x" * (1 + n % 3) + str(n), image, "", "") for n in range(count)]


def ask(model: Parrot, root: Path, count: int, made_by: dict[str, object] = MADE_BY) -> Path:
    path = root / "out" / "pope.answers.jsonl"
    generate_answers(
        model, root, questions(count), path,
        made_by=made_by, max_new_tokens=9, batch_size=4, title="test",
    )  # fmt: skip
    return path


def answers(path: Path) -> dict[str, str]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert len({row["question_id"] for row in rows}) == len(rows)
    return {row["question_id"]: row["text"] for row in rows}


def test_batches_are_whole_pictures_of_about_equal_questions() -> None:
    asked = [
        ("a", "xxxx"),
        ("b", "x"),
        ("c", "xxx"),
        (None, "x"),
        ("a", "x"),
        ("c", "xx"),
        ("d", "xx"),
    ]
    assert plan(asked, 3) == [
        [("b", "x"), ("d", "xx")],
        [("c", "xxx"), ("c", "xx")],
        [("a", "xxxx"), ("a", "x"), (None, "x")],
    ]


def test_a_picture_with_more_questions_than_a_batch_has_batches_of_its_own() -> None:
    asked = [("b", "x"), *(("a", "x" * n) for n in range(5)), ("c", "x")]
    assert [[image for image, _ in batch] for batch in plan(asked, 2)] == [
        ["a", "a"], ["a", "a"], ["a"], ["b", "c"]
    ]  # fmt: skip


def test_every_question_is_asked_once(root: Path) -> None:
    path = ask(Parrot(), root, 10)
    assert answers(path) == {str(n): f"{2 + n % 3} 9 16" for n in range(10)}
    assert list(answers(path)) == [str(n) for n in range(10)], "not in the order of the questions"


def test_the_same_question_about_the_same_picture_is_asked_once(root: Path) -> None:
    model, path = Parrot(), root / "a.jsonl"
    doubled = [Question(f"{split}{n}", f"{n}", "a.png", "", "") for split in "ab" for n in range(3)]
    generate_answers(
        model, root, doubled, path,
        made_by={}, max_new_tokens=1, batch_size=9, title="test",
    )  # fmt: skip
    assert model.asked == [["0", "1", "2"]]
    assert answers(path) == {question.id: "1 1 16" for question in doubled}
    # A run killed between the two: what is known is not asked again.
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:4]))
    generate_answers(
        model, root, doubled, path,
        made_by={}, max_new_tokens=1, batch_size=9, title="test",
    )  # fmt: skip
    assert len(model.asked) == 1
    assert answers(path) == {question.id: "1 1 16" for question in doubled}


def test_a_picture_is_opened_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(
        "eval.generate.open_picture",
        lambda _, name: opened.append(name) or Image.new("RGB", (1, 1)),
    )
    ask(Parrot(), root, 10)  # three batches of one picture
    assert opened == ["a.png"]


def test_text_only_question(root: Path) -> None:
    path = root / "a.jsonl"
    generate_answers(
        Parrot(), root, questions(1, image=None), path,
        made_by={}, max_new_tokens=1, batch_size=1, title="test",
    )  # fmt: skip
    assert answers(path) == {"0": "2 1 0"}


def test_failure_names_the_batch_and_resume_asks_only_the_rest(root: Path) -> None:
    with pytest.raises(RuntimeError, match=r"batch of questions 3, 4, 5 .*out of paper"):
        generate_answers(
            Parrot(fail_on="xx4"), root, questions(9), root / "out/pope.answers.jsonl",
            made_by=MADE_BY, max_new_tokens=9, batch_size=3, title="test",
        )  # fmt: skip
    second = Parrot()
    path = ask(second, root, 9)
    assert [prompt for batch in second.asked for prompt in batch] == [
        "x3", "xx4", "xxx5", "x6", "xx7", "xxx8"
    ]  # fmt: skip
    assert len(answers(path)) == 9


@pytest.mark.parametrize("cut", range(1, 30, 4))
def test_a_line_half_written_by_a_killed_run_is_asked_again(root: Path, cut: int) -> None:
    path = ask(Parrot(), root, 10)
    whole = answers(path)
    path.write_bytes(path.read_bytes()[:-cut])
    second = Parrot()
    assert answers(ask(second, root, 10)) == whole
    assert sum(map(len, second.asked)) == 1


def test_finished_file_is_not_asked_again(root: Path) -> None:
    ask(Parrot(), root, 10)
    second = Parrot()
    ask(second, root, 10)
    assert second.asked == []


def test_answers_of_another_model_are_not_continued(root: Path) -> None:
    ask(Parrot(), root, 10)
    with pytest.raises(ValueError, match="made with another model; remove the file"):
        ask(Parrot(), root, 10, MADE_BY | {"model": {"sha256": "other"}})


def test_answers_without_origin_are_not_continued(root: Path) -> None:
    path = ask(Parrot(), root, 10)
    path.with_suffix(".by.json").unlink()
    with pytest.raises(ValueError, match="another model, data"):
        ask(Parrot(), root, 10)


def test_truncated_picture_stops_with_its_name(root: Path) -> None:
    (root / "a.png").write_bytes((root / "a.png").read_bytes()[:40])
    with pytest.raises(ValueError, match=r"a\.png"):
        ask(Parrot(), root, 2)


def test_too_few_answers_stop(root: Path) -> None:
    class Short(Parrot):
        def answer_batch(
            self, pairs: Sequence[tuple[Image.Image | None, str]], *, max_new_tokens: int
        ) -> list[str]:
            return ["one"]

    with pytest.raises(RuntimeError, match="1 answers to 4 questions"):
        ask(Short(), root, 4)


def test_answers_to_other_words_are_not_continued(root: Path) -> None:
    path = ask(Parrot(), root, 10)
    path.write_text(path.read_text().replace('"prompt": "xxx2"', '"prompt": "yyy2"'))
    with pytest.raises(ValueError, match="question 2 was asked in other words; remove the file"):
        ask(Parrot(), root, 10)


class Small(Parrot):
    """Has memory for so many questions at once, and none while an attempt before holds some."""

    def __init__(self, holds: int) -> None:
        super().__init__()
        self.holds = holds
        self.tried: list[int] = []
        self.taken: list[weakref.ref[torch.Tensor]] = []

    def answer_batch(
        self, pairs: Sequence[tuple[Image.Image | None, str]], *, max_new_tokens: int
    ) -> list[str]:
        assert not any(taken() is not None for taken in self.taken), "memory is not let go"
        self.tried.append(len(pairs))
        cache = torch.zeros(len(pairs))
        self.taken.append(weakref.ref(cache))
        if len(cache) > self.holds:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return super().answer_batch(pairs, max_new_tokens=max_new_tokens)


def test_a_batch_that_memory_does_not_hold_is_halved(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = ask(Parrot(), root, 21).read_bytes()
    model, path = Small(holds=3), root / "small.jsonl"
    generate_answers(
        model, root, questions(21), path,
        made_by=MADE_BY, max_new_tokens=9, batch_size=16, title="test",
    )  # fmt: skip
    # 21 questions about one picture: a batch of 16 and one of 5.
    assert model.tried == [16, 8, 4, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1]
    assert path.read_bytes() == whole
    assert [record.getMessage().partition(";")[0] for record in caplog.records] == [
        f"memory does not hold {size} questions at once" for size in (16, 8, 4)
    ]
    assert "--batch-size 2 " in caplog.text


def test_a_question_that_memory_does_not_hold_stops_with_its_name(root: Path) -> None:
    with pytest.raises(RuntimeError, match=r"questions 0 \(OutOfMemoryError: CUDA out of memory"):
        ask(Small(holds=0), root, 10)
