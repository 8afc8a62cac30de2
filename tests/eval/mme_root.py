"""A small MME in the release's two kinds of folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.eval.naturalbench_root import picture_bytes


def save_picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture_bytes())


def save_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


@pytest.fixture
def mme_root(tmp_path: Path) -> Path:
    """Two tasks in the release's two kinds of folders: existence a and b, landmark c."""
    root = tmp_path / "mme"
    existence = root / "MME_Benchmark_release_version" / "existence"
    for name, thing, other in (("a", "cat", "dog"), ("b", "bus", "cow")):
        save_picture(existence / f"{name}.jpg")
        save_text(
            existence / f"{name}.txt",
            f"Is there a {thing}? Please answer yes or no.\tYes\n"
            f"Is there a {other}?  Please answer yes or no.\tNo\n",
        )
    landmark = root / "MME_Benchmark_release_version" / "landmark"
    save_picture(landmark / "images" / "c.png")
    save_text(
        landmark / "questions_answers_YN" / "c.txt",
        "Is this Paris? Please answer yes or no.\tYes\n"
        "Is this Rome? Please answer yes or no.\tNo\n",
    )
    return root
