"""CHAIR: objects that a caption names and the picture does not have (Rohrbach et al. 2018).

The original rule of LisaAnne/Hallucination, over COCO-format annotations. What a caption mentions
is read by eval/benchmarks/coco_objects.py; here are the ground truth and the counts. A caption
counts as it is: a last sentence that the token limit cut off stays (OPERA's chair.py keeps it too;
dropping it lowers the scores).
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eval.answers import some
from eval.benchmark import Answers, Counts, Kind, Question, Unit, ratio
from eval.benchmarks.chair_answers import read_captions
from eval.benchmarks.coco_objects import ObjectReader, singular_words
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
    """CHAIR. Question ids are COCO image ids. Scores depend strongly on `max_new_tokens`.

    `words_of` is the rule that takes words to their base form. `drawn` makes it the protocol of
    OPERA, PAI and VCD: that many of the annotated pictures, and captions within the limit. Those
    papers shuffle a folder in the order of its file system, so nobody can draw theirs again; here
    they are the pictures whose ids have the smallest sha256, the same wherever val2014 is.
    """

    max_new_tokens: int = 512
    name: str = "chair"
    title: str = "CHAIR"
    folder: str = "chair"
    parser: str = "chair-original-1"
    headlines: tuple[str, ...] = ("chair_i", "chair_s")
    words_of: Callable[[str], list[str]] = singular_words
    drawn: int | None = None

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
        if self.words_of is not singular_words or self.drawn is not None:
            raise FileNotFoundError(
                f"{root}: {self.title} needs {INSTANCES} and {CAPTIONS}: files of objects are "
                "made by the original rule, and do not say which pictures are val2014's."
            )
        ready = sorted([*root.glob("*objects*.json"), *root.glob("*objects*.json.gz")])
        if len(ready) != 1:
            raise FileNotFoundError(
                f"{root}: CHAIR needs {INSTANCES} and {CAPTIONS}, or exactly one file "
                f"*objects*.json[.gz] (image id -> objects); found {len(ready)}."
            )
        return [synonyms, ready[0]]

    def load(self, root: Path) -> list[Question]:
        """One question per picture on disk; all annotated pictures where there is no folder.

        The drawn ones are asked about whether they are on disk or not.
        """
        truth = self._truth(root)
        folder = image_folder(root, ("images", "val2014"))
        present = {path.name for path in (root / folder).glob("*")}
        names = truth.file_names
        if self.drawn is not None:
            names = {i: names[i] for i in draw(list(names), self.drawn)}
        elif present:
            names = {i: name for i, name in names.items() if name in present}
        if not names:
            raise FileNotFoundError(f"{root / folder}: holds no annotated picture.")
        return [
            Question(i, PROMPT, f"{folder}/{name}", ", ".join(sorted(truth.objects[i])), "")
            for i, name in names.items()
        ]

    def part(self, question: Question) -> str:
        """Any set of pictures makes a CHAIR score; a draw is one set."""
        return question.id if self.drawn is None else ""

    def read_answers(self, path: Path, questions: Sequence[Question]) -> Answers:
        """By image id. Released captions answer many prompts, so what a row asked does not count.

        Raises:
            ValueError: captions that the protocol's limit does not let a model write.
        """
        pairs = read_captions(path, {question.id for question in questions})
        # A word has one token at least.
        long = [i for i, caption in pairs if len(caption.split()) > self.max_new_tokens]
        if self.drawn is not None and long:
            raise ValueError(
                f"{path}: {len(long)} captions have more than {self.max_new_tokens} words, so "
                f"they were not made with {self.max_new_tokens} new tokens: {some(long)}; score "
                "them as --benchmark chair."
            )
        return pairs

    def score(
        self, root: Path, questions: Sequence[Question], answers: Mapping[str, str]
    ) -> list[Unit]:
        """One unit per caption."""
        reader = ObjectReader.from_file(root / "synonyms.txt", self.words_of)
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
        return coco_objects(files[1], files[2], ObjectReader.from_file(files[0], self.words_of))


def draw(ids: Sequence[str], count: int) -> list[str]:
    """The ids with the smallest sha256, in that order.

    Raises:
        ValueError: there are not so many.
    """
    if len(ids) < count:
        raise ValueError(
            f"{INSTANCES} has {len(ids)} pictures, and {count} are drawn; take val2014's file, or "
            "--benchmark chair for pictures of your own."
        )
    return sorted(ids, key=lambda i: hashlib.sha256(i.encode()).hexdigest())[:count]


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
