"""Small data roots in the public formats, written anew for each test."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from PIL import Image

from tests.eval.judged_roots import llava_bench_root, mmhal_root, objhal_root
from tests.eval.mmbench_roots import mmbench_cn_root, mmbench_en_root
from tests.eval.mme_root import mme_root
from tests.eval.naturalbench_root import naturalbench_root

# Fixtures that stand in modules of their own.
__all__ = [
    "llava_bench_root",
    "mmbench_cn_root",
    "mmbench_en_root",
    "mme_root",
    "mmhal_root",
    "naturalbench_root",
    "objhal_root",
]

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "benchmarks"
SPLITS = ("random", "popular", "adversarial")


@pytest.fixture
def shared() -> Path:
    """The folder of official files and released answers."""
    if not SHARED.is_dir():
        pytest.skip("the official files (../shared/data/benchmarks) are not on this machine")
    return SHARED


def save_picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 16), (200, 30, 30)).save(path)


def save_csv(path: Path, rows: Sequence[Sequence[str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def save_lines(path: Path, rows: Sequence[dict[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture
def write_picture() -> Callable[[Path], None]:
    return save_picture


@pytest.fixture
def write_csv() -> Callable[[Path, Sequence[Sequence[str]]], None]:
    return save_csv


@pytest.fixture
def write_lines() -> Callable[[Path, Sequence[dict[str, object]]], None]:
    return save_lines


@pytest.fixture
def pope_root(tmp_path: Path) -> Path:
    """Two questions a split, about things that differ by split: 1 is a yes, 2 is a no."""
    root = tmp_path / "pope"
    for split in SPLITS:
        rows: list[dict[str, object]] = [
            {
                "question_id": number,
                "image": "a.jpg",
                "text": f"Is there a {split}{number} in the image?",
                "label": label,
            }
            for number, label in ((1, "yes"), (2, "no"))
        ]
        save_lines(root / f"coco_pope_{split}.json", rows)
    save_picture(root / "images" / "a.jpg")
    return root


@pytest.fixture
def mmvp_root(tmp_path: Path) -> Path:
    """Two pairs; labels a, b and b, a."""
    root = tmp_path / "mmvp"
    save_csv(
        root / "Questions.csv",
        [
            ["lndex", "Question", "Options", "Correct Answer"],
            ["1", "Open or closed?", "(a) Open (b) Closed", "(a)"],
            ["2", "Open or closed?", "(a) Open (b) Closed", "(b)"],
            ["3", "Left or right?", " (a) Left (b) Right", "(b)"],
            ["4", "Left or right?", " (a) Left (b) Right", "(a)"],
        ],
    )
    for number in range(1, 5):
        save_picture(root / "MMVP Images" / f"{number}.jpg")
    return root


@pytest.fixture
def chair_root(tmp_path: Path) -> Path:
    """Two pictures: 7 with a car mask and "a man" in a caption, 8 with a dog mask alone."""
    root = tmp_path / "chair"
    (root / "annotations").mkdir(parents=True)
    (root / "synonyms.txt").write_text(
        "person, man, woman\ncar, taxi\nbear, cub\ntoilet\nchair, seat\nwine glass\ntie\ndog\n"
    )
    images = [{"id": i, "file_name": f"COCO_val2014_{i:012d}.jpg"} for i in (7, 8)]
    instances = {
        "images": images,
        "categories": [{"id": 3, "name": "car"}, {"id": 18, "name": "dog"}],
        "annotations": [{"image_id": 7, "category_id": 3}, {"image_id": 8, "category_id": 18}],
    }
    captions = [{"image_id": 7, "caption": "A man waits."}, {"image_id": 8, "caption": "Grass."}]
    (root / "annotations/instances_val2014.json").write_text(json.dumps(instances))
    (root / "annotations/captions_val2014.json").write_text(json.dumps({"annotations": captions}))
    for image in images:
        save_picture(root / "images" / str(image["file_name"]))
    return root


@pytest.fixture
def hallusionbench_root(tmp_path: Path) -> Path:
    """Seven questions: VD_illusion_0 with two figures of two each (the second edited), VS_chart_0
    with one question to no figure, to figure 1 and to the edited figure 2.
    """
    root = tmp_path / "hallusionbench"
    rows = [
        ("VD", "illusion", "1", "0", "0", "Are they equal?", "1"),
        ("VD", "illusion", "1", "0", "1", "Is A longer?", "0"),
        ("VD", "illusion", "2", "1", "0", "Are they equal?", "0"),
        ("VD", "illusion", "2", "1", "1", "Is A longer?", "1"),
        ("VS", "chart", "0", "0", "0", "Is Oslo the largest?", "0"),
        ("VS", "chart", "1", "1", "0", "Is Oslo the largest?", "1"),
        ("VS", "chart", "2", "2", "0", "Is Oslo the largest?", "0"),
    ]
    data = [
        {
            **{"category": category, "subcategory": subcategory, "visual_input": visual},
            **{"set_id": "0", "figure_id": figure, "sample_note": "", "question_id": question},
            **{"question": text, "gt_answer_details": f"Truth {number}.", "gt_answer": label},
            "filename": None if visual == "0" else f"./{category}/{subcategory}/0_{figure}.png",
        }
        for number, (category, subcategory, visual, figure, question, text, label) in enumerate(
            rows
        )
    ]
    root.mkdir()
    (root / "HallusionBench.json").write_text(json.dumps(data), encoding="utf-8")
    for row in data:
        if row["filename"]:
            save_picture(root / "hallusion_bench" / str(row["filename"]))
    return root


AMBER_TYPES = {
    1: "generative",
    2: "generative",
    3: "discriminative-attribute-state",
    4: "discriminative-attribute-state",
    5: "discriminative-attribute-number",
    6: "discriminative-attribute-number",
    7: "discriminative-attribute-action",
    8: "discriminative-attribute-action",
    9: "discriminative-hallucination",
    10: "discriminative-relation",
    11: "relation",
}


@pytest.fixture
def amber_root(tmp_path: Path) -> Path:
    """Two captions and nine questions; the yes-questions are 3, 5, 7 and 10."""
    root = tmp_path / "amber"
    truths: dict[int, dict[str, object]] = {
        i: {"truth": "yes" if i in (3, 5, 7, 10) else "no"} for i in range(3, 12)
    }
    truths[1] = {"truth": ["person", "dog"], "hallu": ["cat", "car"]}
    truths[2] = {"truth": ["tree"], "hallu": ["bird"]}
    relation = {"person": ["man", "people"], "dog": [], "cat": ["kitten"], "car": ["vehicle"]}
    relation |= {"tree": ["bush"], "bird": [], "light": [], "glass": [], "can": []}
    (root / "query").mkdir(parents=True)
    annotations = [{"id": i, "type": kind} | truths[i] for i, kind in AMBER_TYPES.items()]
    (root / "annotations.json").write_text(json.dumps(annotations))
    (root / "relation.json").write_text(json.dumps(relation))
    (root / "safe_words.txt").write_text("orange\nlight")
    queries = [
        {"id": i, "image": f"AMBER_{i % 2 + 1}.jpg", "query": f"Is it {i}?"} for i in AMBER_TYPES
    ]
    for query in queries[:2]:
        query["query"] = "Describe this image."
    (root / "query/query_all.json").write_text(json.dumps(queries))
    for number in (1, 2):
        save_picture(root / "image" / f"AMBER_{number}.jpg")
    return root
