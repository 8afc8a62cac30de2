"""Small MMBench tables, English and Chinese."""

from __future__ import annotations

import base64
import csv
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.eval.naturalbench_root import picture_bytes


def save_mmbench(path: Path, questions: Sequence[tuple[str, str, list[str], str]]) -> None:
    """A table of (hint, question, options, right option), each in every rotation.

    The first rotation of each question has its picture, the others name that row.
    """
    header = ["index", "question", "hint", "A", "B", "C", "D", "answer", "category", "image"]
    rows = [[*header, "source", "l2-category", "comment", "split"]]
    picture = base64.b64encode(picture_bytes()).decode()
    for number, (hint, question, options, right) in enumerate(questions, start=1):
        for turn in range(len(options)):
            turned = options[turn:] + options[:turn]
            rows.append(
                [
                    str(number + turn * 1_000_000),
                    question,
                    hint,
                    *turned,
                    *[""] * (4 - len(turned)),
                    "ABCD"[turned.index(right)],
                    "detail",
                    picture if turn == 0 else str(number),
                    "made",
                    "odd" if number % 2 else "even",
                    "",
                    "dev",
                ]
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter="\t").writerows(rows)


@pytest.fixture
def mmbench_en_root(tmp_path: Path) -> Path:
    """Question 1 with two options and a hint of two lines, question 2 with three options."""
    root = tmp_path / "mmbench_en"
    save_mmbench(
        root / "mmbench_dev_20230712.tsv",
        [
            ("Look.\nThen answer.", 'Is it a "cat"?', ["a cat", "a dog"], "a cat"),
            ("", "Which colour?", ["red", "green", "blue"], "blue"),
        ],
    )
    return root


@pytest.fixture
def mmbench_cn_root(tmp_path: Path) -> Path:
    """The same questions in Chinese."""
    root = tmp_path / "mmbench_cn"
    save_mmbench(
        root / "mmbench_dev_cn_20231003.tsv",
        [
            ("请看。", "这是猫吗?", ["猫", "狗"], "猫"),
            ("", "什么颜色?", ["红色", "绿色", "蓝色"], "蓝色"),
        ],
    )
    return root
