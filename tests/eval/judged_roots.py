"""Small data roots of the benchmarks that need a judge; the prompts are not the official ones."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import pytest
from PIL import Image

MMHAL_TYPES = (
    *("attribute", "adversarial", "comparison", "counting"),
    *("relation", "environment", "holistic", "other"),
)
# As the official scripts are: what surrounds the prompt cannot be run here.
MMHAL_SCRIPT = """import no_such_package

template = '''Rate it.
- Rating: 6, good
### Image Contents
{}
### Question
{}
### Standard Human-Generated Answer
{}
### LMM Response to Evaluate
{}
'''

if __name__ == '__main__':
    raise SystemExit
"""
OBJHAL_SCRIPT = '''import no_such_package

prompt_template = """Which objects?
Question: {question}
Answer: {answer}
Present the results in a JSON list format: [\\"object_1\\", ..., \\"object_n\\"].
"""
'''


def encoded_picture() -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), (200, 30, 30)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def save_pictures(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_bytes(base64.b64decode(encoded_picture()))


def write_json_lines(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def mmhal_root(tmp_path: Path) -> Path:
    """Eight items, a type each; ids are h0 to h7."""
    root = tmp_path / "mmhal"
    save_pictures(root / "images", *(f"{number}_o.jpg" for number in range(8)))
    items = [
        {
            "question_type": kind,
            "question_topic": "outdoor",
            "image_id": f"h{number}",
            "image_src": f"https://pictures.example/8/{number}_o.jpg",
            "image_content": ["Cat", "Tree"],
            "question": f"What of {kind}?",
            "gt_answer": f"It is {number}.",
            "model_answer": "",
        }
        for number, kind in enumerate(MMHAL_TYPES)
    ]
    (root / "response_template.json").write_text(json.dumps(items))
    (root / "eval_gpt4.py").write_text(MMHAL_SCRIPT)
    return root


@pytest.fixture
def llava_bench_root(tmp_path: Path) -> Path:
    """Two conversations and a description about one picture, a complex question about another."""
    root = tmp_path / "llava_bench"
    save_pictures(root / "images", "001.jpg", "002.jpg")
    asked = [("001", "conv"), ("001", "conv"), ("001", "detail"), ("002", "complex")]
    questions = [
        {"question_id": n, "image": f"{image}.jpg", "text": f"What {n}?", "category": category}
        for n, (image, category) in enumerate(asked)
    ]
    write_json_lines(root / "questions.jsonl", questions)
    context = [
        {"id": "001", "image": "001.jpg", "caption": ["Ramen.", "Two eggs."]},
        {"id": "002", "image": "002.jpg", "caption": "A painting."},
    ]
    write_json_lines(root / "context.jsonl", context)
    answers = [
        {"question_id": n, "prompt": "", "text": f"Gold {n}.", "answer_id": f"a{n}"}
        for n in range(4)
    ]
    write_json_lines(root / "answers_gpt4.jsonl", answers)
    rules = {
        f"llava_bench_{category}": {"role": "Assistant", "prompt": f"Judge as {category}."}
        for category in ("conv", "detail", "complex")
    }
    (root / "rule.json").write_text(json.dumps({"coding": {"role": "R", "prompt": "P"}, **rules}))
    return root


@pytest.fixture
def objhal_root(tmp_path: Path) -> Path:
    """Pictures 7 (car; "a man" in a caption), 8 (dog) and 9 (nothing); 9 is asked otherwise."""
    root = tmp_path / "objhal"
    (root / "annotations").mkdir(parents=True)
    (root / "synonyms_refine.txt").write_text(
        "person, man, people\ncar, taxi\ndog\norange\nbus, minibus\nchair, seat\ntoilet\n"
        "dining table, table\ntennis racket\ntie, bow tie\n"
    )
    rows = [
        {"image": encoded_picture(), "image_id": number, "org_idx": number, "question": text}
        for number, text in ((7, "Describe."), (8, "Describe."), (9, "What is there?"))
    ]
    write_json_lines(root / "obj_halbench_300_with_image.jsonl", rows)
    (root / "eval_gpt_obj_halbench.py").write_text(OBJHAL_SCRIPT)
    instances = {
        "images": [{"id": i, "file_name": f"COCO_val2014_{i:012d}.jpg"} for i in (7, 8, 9)],
        "categories": [{"id": 3, "name": "car"}, {"id": 18, "name": "dog"}],
        "annotations": [{"image_id": 7, "category_id": 3}, {"image_id": 8, "category_id": 18}],
    }
    captions = [{"image_id": 7, "caption": "A man waits."}, {"image_id": 9, "caption": "Grass."}]
    (root / "annotations/instances_val2014.json").write_text(json.dumps(instances))
    (root / "annotations/captions_val2014.json").write_text(json.dumps({"annotations": captions}))
    return root
