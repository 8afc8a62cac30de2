"""POPE for lmms-eval, asked word for word as eval/ asks it: a check of either by the other.

Run inside a POPE folder (coco_pope_*.json, images/), with an environment of its own that has
lmms-eval and no need of this project:

    cd out/miniature/data/pope
    HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 python -m lmms_eval --model llava_hf \\
      --model_args pretrained=$REPO/out/miniature/tuned,device_map=cpu --device cpu \\
      --include_path $REPO/scripts/lmms_eval --tasks fovea_pope --batch_size 1 \\
      --output_path logs --log_samples

The three logs of samples, one after the other in one file, are answers that eval/run.py --answers
scores.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datasets import Dataset
from PIL import Image, ImageOps

Doc = dict[str, Any]


def number_random(docs: Dataset) -> Dataset:
    """LLaVA numbers the questions of the three files in one row; these two are moved up."""
    return docs.map(lambda doc: {"question_id": doc["question_id"] + 10_000_000})


def number_popular(docs: Dataset) -> Dataset:
    return docs.map(lambda doc: {"question_id": doc["question_id"] + 20_000_000})


def number_adversarial(docs: Dataset) -> Dataset:
    return docs


def visuals(doc: Doc) -> list[Image.Image]:
    with Image.open(Path("images") / doc["image"]) as picture:
        return [ImageOps.exif_transpose(picture).convert("RGB")]


def prompt(doc: Doc) -> str:
    return f"{doc['text']}\nAnswer the question using a single word or phrase."


def correct(doc: Doc, results: list[str]) -> dict[str, float]:
    """POPE's own reading: a "no" among the words of the first sentence, else a yes.

    The log says what a question was by this alone, so the id goes along.
    """
    words = results[0].strip().split(".")[0].replace(",", "").split(" ")
    said = "no" if {"No", "not", "no"} & set(words) else "yes"
    return {"accuracy": float(said == doc["label"]), "question_id": doc["question_id"]}
