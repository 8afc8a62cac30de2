"""Several processes fill one file: everything once, the same bytes, whatever was killed before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from eval.benchmark import Question
from eval.generate import generate_answers
from tests.tiny_llava import picture, write_llava

REPOSITORY = Path(__file__).resolve().parents[2]
MADE_BY: dict[str, object] = {"model": "m"}


@dataclass(frozen=True)
class Process:
    """What eval.generate uses of accelerate's PartialState, for a thread."""

    process_index: int
    num_processes: int
    barrier: threading.Barrier

    @property
    def is_main_process(self) -> bool:
        return self.process_index == 0

    def wait_for_everyone(self) -> None:
        self.barrier.wait(timeout=20)


class Parrot:
    """Repeats what it is asked; all of its kind share one list of that. May fail, once."""

    def __init__(self, asked: list[str], fail_on: str | None) -> None:
        self.asked, self.fail_on = asked, fail_on

    def answer_batch(
        self, pairs: Sequence[tuple[Image.Image | None, str]], *, max_new_tokens: int
    ) -> list[str]:
        prompts = [prompt for _, prompt in pairs]
        if self.fail_on in prompts:
            raise ValueError("killed")
        self.asked.extend(prompts)
        return [f"{prompt}!" for prompt in prompts]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in "abcdefg":
        Image.new("RGB", (4, 4)).save(tmp_path / f"{name}.png")
    return tmp_path


QUESTIONS = [
    Question(f"{name}{n}", f"{n}" * (n + 1) + name, f"{name}.png", "", "")
    for n in range(3)
    for name in "gfedcba"
]


def run(
    root: Path, monkeypatch: pytest.MonkeyPatch, world: int, fail_on: str | None = None
) -> tuple[list[str], list[BaseException]]:
    """Ask with so many processes: what was asked, and what went wrong."""
    here, barrier = threading.local(), threading.Barrier(world)
    asked: list[str] = []
    failed: list[BaseException] = []

    def work(rank: int) -> None:
        here.process = Process(rank, world, barrier)
        try:
            generate_answers(
                Parrot(asked, fail_on), root, QUESTIONS, root / "out/pope.answers.jsonl",
                made_by=MADE_BY, max_new_tokens=1, batch_size=4, title="test",
            )  # fmt: skip
        except (RuntimeError, threading.BrokenBarrierError) as error:
            failed.append(error)
            barrier.abort()  # as torchrun ends all when one ends

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(world)]
    with monkeypatch.context() as patch:
        patch.setattr("eval.generate.processes", lambda: here.process)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return asked, failed


def written(root: Path) -> bytes:
    assert {path.name for path in (root / "out").iterdir()} == {
        "pope.answers.jsonl", "pope.answers.by.json"
    }  # fmt: skip
    return (root / "out/pope.answers.jsonl").read_bytes()


@pytest.mark.parametrize("world", [1, 2, 3, 9])
def test_the_file_is_the_same_whatever_the_number_of_processes(
    root: Path, monkeypatch: pytest.MonkeyPatch, world: int
) -> None:
    asked, failed = run(root, monkeypatch, world)
    assert not failed
    assert sorted(asked) == sorted(question.prompt for question in QUESTIONS)
    assert [json.loads(row) for row in written(root).decode().splitlines()] == [
        {"question_id": q.id, "prompt": q.prompt, "text": f"{q.prompt}!"} for q in QUESTIONS
    ]


@pytest.mark.parametrize(("before", "after"), [(3, 2), (2, 3), (3, 1), (1, 2)])
@pytest.mark.parametrize("name", "adg")
def test_a_killed_run_goes_on_with_another_number_of_processes(
    root: Path, monkeypatch: pytest.MonkeyPatch, before: int, after: int, name: str
) -> None:
    asked, failed = run(root, monkeypatch, before, fail_on=f"11{name}")
    assert failed
    again, failed = run(root, monkeypatch, after)
    assert not failed
    assert sorted(asked + again) == sorted(question.prompt for question in QUESTIONS)
    assert len(written(root).splitlines()) == len(QUESTIONS)


def test_a_half_written_line_of_a_part_is_asked_again(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(root, monkeypatch, 1)
    whole = written(root)
    rows, folder = whole.splitlines(keepends=True), root / "out"
    (folder / "pope.answers.jsonl").write_bytes(b"".join(rows[:9]))
    (folder / "pope.answers.1.jsonl").write_bytes(b"".join(rows[8:-1]) + rows[-1][:-3])
    (folder / "pope.answers.1.by.json").write_text(json.dumps(MADE_BY))
    asked, failed = run(root, monkeypatch, 2)
    assert (asked, failed) == ([QUESTIONS[-1].prompt], [])
    assert written(root) == whole


def test_a_part_made_by_another_model_is_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(root, monkeypatch, 1)
    (root / "out/pope.answers.1.jsonl").write_text('{"question_id": "x"}\n')
    (root / "out/pope.answers.1.by.json").write_text('{"model": "other"}')
    with pytest.raises(ValueError, match=r"answers\.1\.jsonl: its rows were made with another mod"):
        generate_answers(
            Parrot([], None), root, QUESTIONS, root / "out/pope.answers.jsonl",
            made_by=MADE_BY, max_new_tokens=1, batch_size=4, title="test",
        )  # fmt: skip


@pytest.mark.slow
def test_two_processes_of_torchrun_answer_as_one(tmp_path: Path) -> None:
    llava = write_llava(tmp_path)
    root = tmp_path / "pope"
    (root / "images").mkdir(parents=True)
    for split in ("random", "popular", "adversarial"):
        rows = [
            {"question_id": 6 * image + n, "image": f"{image}.png", "label": "yes",
             "text": f"how many {split}{' red' * n} objects"}
            for image in range(5) for n in range(4)
        ]  # fmt: skip
        (root / f"coco_pope_{split}.json").write_text("\n".join(map(json.dumps, rows)))
    for image in range(5):
        picture(image).save(root / f"images/{image}.png")
    arguments = ["eval/run.py", "--model", llava, "--benchmark", "pope", "--data-root", root]
    arguments += ["--batch-size", "13", "--max-new-tokens", "6", "--output"]
    several = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29713"]
    for name, launcher in (("one", []), ("two", several)):
        done = subprocess.run(
            [sys.executable, *launcher, *arguments, tmp_path / name],
            cwd=REPOSITORY, capture_output=True, text=True, check=False,
            env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stdout.count("POPE ·") == 1, "every process printed its table"
    one, two = ((tmp_path / name / "pope.answers.jsonl").read_bytes() for name in ("one", "two"))
    assert one == two
    assert len({json.loads(row)["text"] for row in one.splitlines()}) > 5
    assert (tmp_path / "two/pope.json").is_file()
