"""Files of captions: every form that tools write, and every way in which one can be bad."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from eval.answers import join_answers
from eval.benchmarks.chair import Chair

CHAIR = Chair()


def joined(root: Path, path: Path) -> dict[str, str]:
    return join_answers(CHAIR, CHAIR.load(root), CHAIR.read_answers(path, CHAIR.load(root)), path)[
        1
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "2 of 2 questions of chair have no answer: 7, 8"),
        (b"[]", "2 of 2 questions of chair have no answer: 7, 8"),
        (b'{"image_id": 7, "caption": "x"}\n{"image_id": 7, "caption": "y"}', "more than once: 7;"),
        (b'{"image_id": 7, "caption": "x"}{"image_id": "7", "caption": "x"}', "more than once: 7;"),
        (b'{"image_id": 9, "caption": "x"}', "chair does not have: 9;"),
        (b'{"image_id": "COCO_val2014_000000000009.jpg", "caption": "x"}', "does not have: 9;"),
        (b'{"image_id": 7.5, "caption": "x"}', r"id 7\.5 is no whole number"),
        (b'{"imgToEval": ["A dog."]}', "holds no captions in imgToEval"),
        (b'{"imgToEval": {"7": "A dog."}}', "row 1: none of the fields"),
        (b'{"sentences": [[]], "overall_metrics": {}}', "row 1: none of the fields"),
        (b'{"image_id": true, "caption": "x"}', "id True is no whole number"),
        (b'{"caption": "x"}', "none of the fields image_id, question_id"),
        (b'{"image_id": 7}', "none of the fields text, "),
        (b'{"image_id": 7, "caption": null}', "answer None is no string"),
        (b'{"image_id": 7, "caption": ["x"]}', "row 1: answer .* is no string"),
        (b'{"image_id": 7, "caption": "x"}\n{"image_id": 8, "cap', "line 2: broken json"),
        (b'{"image_id": 7 "caption": "x"}', "line 1: broken json"),
        (b'["A dog."]', "line 1: expected an object"),
        ('{"image_id": 7, "caption": "x"}'.encode("utf-16"), "not UTF-8 text"),
        (gzip.compress(b"[]"), "not UTF-8 text"),
    ],
)
def test_bad_captions(chair_root: Path, tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        joined(chair_root, path)


CAPTIONS = {"7": "A dog.", "8": "Two cars."}
FORMS = {
    "COCO results": [{"image_id": int(i), "caption": c} for i, c in CAPTIONS.items()],
    "floats": [{"image_id": float(i), "caption": c} for i, c in CAPTIONS.items()],
    "filled up": [{"image_id": f"{int(i):012d}", "caption": c} for i, c in CAPTIONS.items()],
    "file names": [
        {"question_id": f"COCO_val2014_{int(i):012d}", "prompt": "Describe it.", "text": c}
        for i, c in CAPTIONS.items()
    ],
    "pictures": [
        {"image": f"COCO_val2014_{int(i):012d}.jpg", "caption": c} for i, c in CAPTIONS.items()
    ],
    # What the original chair.py reads (coco-caption's results), and what it saves.
    "rows with sentences of their own": [
        {"image_id": int(i), "caption": c, "sentences": [c]} for i, c in CAPTIONS.items()
    ],
    "imgToEval": {
        "overall": {"CIDEr": 1.0},
        "imgToEval": {i: {"image_id": int(i), "caption": c} for i, c in CAPTIONS.items()},
    },
    "sentences": {
        "sentences": [
            {"image_id": int(i), "caption": c, "mscoco_gt_words": [], "metrics": {"CHAIRs": 0}}
            for i, c in CAPTIONS.items()
        ],
        "overall_metrics": {"CHAIRs": 0.0},
    },
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_forms(chair_root: Path, tmp_path: Path, form: object) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(form))
    assert joined(chair_root, path) == CAPTIONS
