"""A POPE folder of made-up pictures, and a turn of each contender of benchmarks/eval_speed.py over
it: all questions asked, the model loaded and warm before the clock starts."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SPLITS, QUESTIONS = ("random", "popular", "adversarial"), 2  # POPE asks six things of a picture
OBJECTS = ("dog", "car", "dining table", "bottle", "person", "traffic light", "chair", "handbag")
SUFFIX = "\nAnswer the question using a single word or phrase."
Turn = dict[str, Any]  # seconds, answers by question id, versions


def write_pope(folder: Path, pictures: int) -> Path:
    """COCO's size, smooth as photographs are; six questions about each, no two alike."""
    random = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    rows: dict[str, list[str]] = {split: [] for split in SPLITS}
    for number in range(pictures):
        coarse = random.integers(0, 255, (12, 16, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((640, 480)).save(folder / f"images/{number}.jpg")
        asked = iter(random.permutation(OBJECTS))
        for split in SPLITS:
            for _ in range(QUESTIONS):
                row = {
                    "question_id": len(rows[split]) + 1,
                    "image": f"{number}.jpg",
                    "text": f"Is there a {next(asked)} in the image?",
                    "label": "no",
                }
                rows[split].append(json.dumps(row))
    for split, lines in rows.items():
        (folder / f"coco_pope_{split}.json").write_text("\n".join(lines), encoding="utf-8")
    return folder


def fovea(model: Path, pope: Path, max_new_tokens: int, batch_size: int) -> Turn:
    """eval/'s runner, as it is."""
    from mllm.chat import Chat

    return _ours(Chat(model), pope, max_new_tokens, batch_size)


def fovea_plain(model: Path, pope: Path, max_new_tokens: int, batch_size: int) -> Turn:
    """eval/'s runner asking as it asks models that are no LLaVA: nothing is shared."""
    from mllm.answerer import Answerer
    from mllm.chat import Chat

    chat = Chat(model)
    plain = Answerer(chat.model, chat.processor, chat.tokenizer)
    return _ours(plain, pope, max_new_tokens, batch_size)


def _ours(answerer: Any, pope: Path, max_new_tokens: int, batch_size: int) -> Turn:
    from eval.benchmarks.pope import Pope
    from eval.generate import generate_answers

    benchmark = Pope()
    answerer.answer_batch([(Image.new("RGB", (640, 480)), "warm")], max_new_tokens=max_new_tokens)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pope.answers.jsonl"
        start = time.perf_counter()
        generate_answers(
            answerer, pope, benchmark.load(pope), path,
            made_by={}, max_new_tokens=max_new_tokens, batch_size=batch_size, title="POPE",
        )  # fmt: skip
        seconds = time.perf_counter() - start
        answers = dict(benchmark.read_answers(path, benchmark.load(pope)))
    return _turn(seconds, answers)


def lmms_eval(model: Path, pope: Path, max_new_tokens: int, batch_size: int) -> Turn:
    """lmms-eval's llava_hf, which takes one question at a time."""
    import torch
    from lmms_eval.api.instance import Instance  # pyright: ignore[reportMissingImports]
    from lmms_eval.models.simple.llava_hf import LlavaHf  # pyright: ignore[reportMissingImports]

    device = "cuda" if torch.cuda.is_available() else "cpu"
    llava = LlavaHf(pretrained=str(model), device=device, device_map=device)
    docs = {split: _docs(pope, split) for split in SPLITS}
    # What lmms-eval itself hands over: a task's rows by split, and how to see one.
    llava.task_dict = {"pope": docs}

    def requests(split: str, numbers: range) -> list[Instance]:
        return [
            Instance(
                request_type="generate_until",
                arguments=(
                    docs[split][n]["text"] + SUFFIX,
                    {"max_new_tokens": max_new_tokens, "temperature": 0, "do_sample": False},
                    lambda doc: [Image.open(pope / "images" / doc["image"]).convert("RGB")],
                    n, "pope", split,
                ),
                idx=0,
                metadata={"task": "pope", "doc_id": n, "repeats": 1},
            )
            for n in numbers
        ]  # fmt: skip

    llava.generate_until(requests("random", range(1)))
    answers = {}
    start = time.perf_counter()
    for split, offset in zip(SPLITS, (10_000_000, 20_000_000, 0), strict=True):
        said = llava.generate_until(requests(split, range(len(docs[split]))))
        for doc, text in zip(docs[split], said, strict=True):
            answers[str(offset + doc["question_id"])] = text.strip()
    return _turn(time.perf_counter() - start, answers, "lmms-eval")


def _docs(pope: Path, split: str) -> list[dict[str, Any]]:
    lines = (pope / f"coco_pope_{split}.json").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def _turn(seconds: float, answers: dict[str, str], *packages: str) -> Turn:
    versions = {name: version(name) for name in ("torch", "transformers", *packages)}
    return {"seconds": seconds, "answers": answers, "versions": versions}


CONTENDERS: dict[str, Callable[[Path, Path, int, int], Turn]] = {
    "lmms-eval": lmms_eval,
    "fovea, nothing shared": fovea_plain,
    "fovea": fovea,
}
