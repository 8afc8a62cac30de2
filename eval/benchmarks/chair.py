"""CHAIR: objects that a caption names and the picture does not have (Rohrbach et al. 2018).

The original rule of LisaAnne/Hallucination, over COCO-format annotations. What a caption mentions
is read by eval/benchmarks/coco_objects.py; here are the ground truth and the counts.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eval.answers import answers_by_id
from eval.benchmark import Answers, Counts, Kind, Question, Unit, ratio
from eval.benchmarks.coco_objects import ObjectReader
from eval.pictures import image_folder

PROMPT = "Please describe this image in detail."  # the protocol of OPERA, PAI and VCD
INSTANCES = "annotations/instances_val2014.json"
CAPTIONS = "annotations/captions_val2014.json"

KINDS = {
    "chair_i": Kind("hallucinated mentions (CHAIRi)", "lower"),
    "chair_s": Kind("captions with a hallucination (CHAIRs)", "lower"),
    "recall": Kind("objects named (recall)"),
    "mean_length": Kind("mean length in words", "neither", share=False),
    "mentions": Kind("mentions per caption", "neither", share=False),
}


@dataclass(frozen=True)
class GroundTruth:
    """Objects and file name of each picture, by image id as a string."""

    objects: dict[str, frozenset[str]]
    file_names: dict[str, str]


@dataclass(frozen=True)
class Chair:
    """CHAIR. Question ids are COCO image ids. Scores depend strongly on `max_new_tokens`."""

    max_new_tokens: int = 512
    name: str = "chair"
    title: str = "CHAIR"
    folder: str = "chair"
    parser: str = "chair-original-1"
    headlines: tuple[str, ...] = ("chair_i", "chair_s")

    @property
    def kinds(self) -> Mapping[str, Kind]:
        return KINDS

    def files(self, root: Path) -> list[Path]:
        """synonyms.txt, and the annotations or one file of objects (`*objects*.json[.gz]`)."""
        synonyms = root / "synonyms.txt"
        if not synonyms.is_file():
            raise FileNotFoundError(f"{synonyms}: no such file; CHAIR reads objects with it.")
        if (root / INSTANCES).is_file() and (root / CAPTIONS).is_file():
            return [synonyms, root / INSTANCES, root / CAPTIONS]
        ready = sorted([*root.glob("*objects*.json"), *root.glob("*objects*.json.gz")])
        if len(ready) != 1:
            raise FileNotFoundError(
                f"{root}: CHAIR needs {INSTANCES} and {CAPTIONS}, or exactly one file "
                f"*objects*.json[.gz] (image id -> objects); found {len(ready)}."
            )
        return [synonyms, ready[0]]

    def load(self, root: Path) -> list[Question]:
        """One question per picture on disk; all annotated pictures where there is no folder."""
        truth = self._truth(root)
        folder = image_folder(root, ("images", "val2014"))
        present = {path.name for path in (root / folder).glob("*")}
        names = {i: name for i, name in truth.file_names.items() if not present or name in present}
        if not names:
            raise FileNotFoundError(f"{root / folder}: holds no annotated picture.")
        return [
            Question(i, PROMPT, f"{folder}/{name}", ", ".join(sorted(truth.objects[i])), "")
            for i, name in names.items()
        ]

    def part(self, question: Question) -> str:
        """Any set of pictures makes a CHAIR score; papers draw their own 500."""
        return question.id

    def read_answers(self, path: Path, questions: Sequence[Question]) -> Answers:
        return answers_by_id(path, "image_id", "question_id")

    def score(
        self, root: Path, questions: Sequence[Question], answers: Mapping[str, str]
    ) -> list[Unit]:
        """One unit per caption."""
        reader = ObjectReader.from_file(root / "synonyms.txt")
        return [_unit(question, answers[question.id], reader) for question in questions]

    def metrics(self, sums: Counts) -> dict[str, np.ndarray]:
        return {
            "chair_i": ratio(sums["hallucinated"], sums["mentions"]),
            "chair_s": ratio(sums["any"], sums["captions"]),
            "recall": ratio(sums["objects_named"], sums["objects"]),
            "mean_length": ratio(sums["words"], sums["captions"]),
            "mentions": ratio(sums["mentions"], sums["captions"]),
        }

    def _truth(self, root: Path) -> GroundTruth:
        files = self.files(root)
        if len(files) == 2:
            return _ready_objects(files[1])
        return coco_objects(files[1], files[2], ObjectReader.from_file(files[0]))


def _read_json(path: Path) -> Any:
    try:
        raw = path.read_bytes()
        return json.loads(gzip.decompress(raw) if path.suffix == ".gz" else raw)
    except ValueError as error:
        raise ValueError(f"{path}: broken json ({error}); take the file again.") from error


def _ready_objects(path: Path) -> GroundTruth:
    objects = {str(i): frozenset(words) for i, words in _read_json(path).items()}
    # Ready objects carry no file names; these are COCO val2014's.
    return GroundTruth(objects, {i: f"COCO_val2014_{int(i):012d}.jpg" for i in objects})


def coco_objects(instances: Path, captions: Path, reader: ObjectReader) -> GroundTruth:
    """Objects of the segmentation masks, united with those that the reference captions name.

    Raises:
        ValueError: a file that is not in COCO's format, or a category that synonyms.txt lacks.
    """
    try:
        masks = _read_json(instances)
        names = {category["id"]: category["name"] for category in masks["categories"]}
        nodes = {i: reader.node(name) for i, name in names.items()}
        objects: dict[int, set[str]] = {image["id"]: set() for image in masks["images"]}
        for annotation in masks["annotations"]:
            objects[annotation["image_id"]].add(nodes[annotation["category_id"]])
        for annotation in _read_json(captions)["annotations"]:
            objects[annotation["image_id"]].update(reader.mentions(annotation["caption"]))
        files = {str(image["id"]): image["file_name"] for image in masks["images"]}
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{instances} and {captions}: not COCO annotations of one set of pictures "
            f"({type(error).__name__}: {error})."
        ) from error
    return GroundTruth({str(i): frozenset(words) for i, words in objects.items()}, files)


def _unit(question: Question, caption: str, reader: ObjectReader) -> Unit:
    truth = set(question.label.split(", ")) if question.label else set()
    mentions = reader.mentions(caption)
    wrong = [word for word in mentions if word not in truth]
    counts = {
        "captions": 1,
        "mentions": len(mentions),
        "hallucinated": len(wrong),
        "any": bool(wrong),
        "objects": len(truth),
        "objects_named": len(truth & set(mentions)),
        # POPE's caption table counts blanks, so an empty caption has one word.
        "words": len(caption.split(" ")),
    }
    return Unit(
        id=question.id,
        cluster=question.id,
        counts={name: float(value) for name, value in counts.items()},
        right=not wrong,
        category="",
        question=question.prompt,
        answer=caption,
        reading=f"invented: {', '.join(sorted(set(wrong)))}" if wrong else "nothing invented",
        label=question.label,
        images=(question.image,) if question.image else (),
    )
