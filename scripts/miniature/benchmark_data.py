"""Held-out scenes as benchmarks, each in the files and folders its official release has."""

from __future__ import annotations

import csv
import json
import random
from collections import Counter
from collections.abc import Callable
from itertools import count
from pathlib import Path

import numpy as np
from tqdm import tqdm

from scripts.miniature import language, questions
from scripts.miniature.render import render
from scripts.miniature.sizes import Sizes
from scripts.miniature.world import EDITS, SHAPES, Edit, Scene, Thing, random_edit, random_scene_of

POPE_QUESTIONS_EACH_WAY, REFERENCE_CAPTIONS = 3, 5
# What a question about an edit of each kind asks for.
_ASKED = {"add": "presence", "remove": "presence", "swap": "colour"}
# CHAIR's rule reads words in a singular that turns "cross" into "cros", as "glass" into "glas".
_SYNONYMS = {"circle": ["disc", "disk"], "moon": ["crescent"], "cross": ["cros"]}


def _write_csv(path: Path, rows: list[list[object]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def _scenes(rng: random.Random, number: int, shapes: int) -> list[Scene]:
    """Held-out scenes that show at least so many different shapes."""
    drawn = (random_scene_of(rng, held_out=True, least=shapes) for _ in count())
    varied = (scene for scene in drawn if len({t.shape for t in scene.things}) >= shapes)
    return [next(varied) for _ in range(number)]


def _write_pictures(
    folder: Path, scenes: list[Scene], seed: list[int], name: Callable[[int], str]
) -> None:
    generator = np.random.default_rng(seed)
    for index, scene in enumerate(tqdm(scenes, f"{folder.parent.name} pictures")):
        path = folder / name(index)
        path.parent.mkdir(parents=True, exist_ok=True)
        # The format follows the name; JPEG's usual settings would blur what is asked about.
        render(scene, generator).save(path, quality=95, subsampling=0)


def _absent(mode: str, present: set[str], scenes: list[Scene], rng: random.Random) -> list[str]:
    """The absent shapes POPE asks for: any, the most frequent, or the most often seen together."""
    frequency, together = Counter[str](), Counter[str]()
    for scene in scenes:
        shapes = {thing.shape for thing in scene.things}
        frequency.update(shapes)
        together.update({shape: len(shapes & present) for shape in shapes})
    absent = rng.sample(
        [shape for shape in SHAPES if shape not in present], k=len(SHAPES) - len(present)
    )
    if mode == "popular":
        absent.sort(key=frequency.__getitem__, reverse=True)
    elif mode == "adversarial":
        absent.sort(key=together.__getitem__, reverse=True)
    return absent[:POPE_QUESTIONS_EACH_WAY]


def _write_pope(root: Path, seed: int, pictures: int) -> None:
    """POPE's three files; as there, an image has three objects at least and six questions."""
    rng = random.Random(f"{seed} pope")
    scenes = _scenes(rng, pictures, shapes=POPE_QUESTIONS_EACH_WAY)
    _write_pictures(root / "images", scenes, [seed, 1], "scene_{:06d}.png".format)
    asked = [
        rng.sample(sorted({t.shape for t in scene.things}), POPE_QUESTIONS_EACH_WAY)
        for scene in scenes
    ]
    for mode in ("random", "popular", "adversarial"):
        rows = []
        for index, scene in enumerate(scenes):
            absent = _absent(mode, {t.shape for t in scene.things}, scenes, rng)
            for yes, no in zip(asked[index], absent, strict=True):
                for shape, label in ((yes, "yes"), (no, "no")):
                    image, text = f"scene_{index:06d}.png", questions.ask_existence(shape)
                    row = {"question_id": len(rows) + 1, "image": image, "text": text}
                    rows.append(json.dumps(row | {"label": label}))
        (root / f"coco_pope_{mode}.json").write_text("\n".join(rows) + "\n")


def _first_thing(edit: Edit, scene: Scene) -> Thing:
    """The thing a question about the edit speaks of: the changed one, seen in this scene."""
    place = edit.focus[-1] if edit.kind in ("add", "remove") else edit.focus[0]
    places = edit.focus if edit.kind == "position" else (place,)
    for candidate in (scene, edit.source, edit.target):
        for thing in candidate.things:
            if thing.place in places:
                return thing
    raise ValueError(f"the edit {edit.instruction!r} touches nothing")


def _pairs(rng: random.Random, number: int) -> list[Edit]:
    """Held-out edits, the kinds one after the other, in a random direction."""
    kinds = [kind for kind in EDITS for _ in range(number // len(EDITS))]
    return [random_edit(rng, kind, held_out=True) for kind in kinds]


def _mmvp_rows(edit: Edit, rng: random.Random) -> tuple[list[Scene], list[list[str]]]:
    """Two scenes and their two rows (question, options, answer); the first is always (a)."""
    scenes = [edit.source, edit.target]
    rng.shuffle(scenes)
    kind = _ASKED.get(edit.kind, edit.kind)
    things = [_first_thing(edit, scene) for scene in scenes]
    question = questions.question_about(kind, things[0], *scenes)
    one, other = (questions.answer_to(kind, t, s) for t, s in zip(things, scenes, strict=True))
    options = questions.options_text((one, other))
    return scenes, [[question, options, letter] for letter in ("(a)", "(b)")]


def _write_mmvp(root: Path, seed: int, pairs: int) -> None:
    rng = random.Random(f"{seed} mmvp")
    scenes: list[Scene] = []
    rows: list[list[object]] = [["lndex", "Question", "Options", "Correct Answer"]]
    for edit in _pairs(rng, pairs):
        pair, lines = _mmvp_rows(edit, rng)
        for scene, line in zip(pair, lines, strict=True):
            scenes.append(scene)
            rows.append([len(scenes), *line])
    _write_pictures(root / "MMVP Images", scenes, [seed, 2], lambda index: f"{index + 1}.jpg")
    _write_csv(root / "Questions.csv", rows)


def _write_mmvp_vlm(root: Path, seed: int, pairs: int) -> None:
    rng = random.Random(f"{seed} mmvp_vlm")
    edits = _pairs(rng, pairs)
    scenes = [scene for edit in edits for scene in (edit.source, edit.target)]
    rows: list[list[object]] = [["Question ID", "Type", "Statement"]]
    for index, scene in enumerate(scenes):
        edit = edits[index // 2]
        rows.append([index + 1, edit.kind, language.edit_caption(edit, scene)])
    folder = root / "MLLM_VLM Images"
    _write_pictures(
        folder, scenes, [seed, 3], lambda index: f"{rows[index + 1][1]}/{index + 1}.jpg"
    )
    _write_csv(root / "Questions.csv", rows)


def _write_chair(root: Path, seed: int, pictures: int) -> None:
    """COCO's instances and captions, and CHAIR's synonyms (first word of a line: the object)."""
    rng = random.Random(f"{seed} chair")
    scenes = _scenes(rng, pictures, shapes=2)
    _write_pictures(root / "images", scenes, [seed, 4], lambda index: f"scene_{index + 1:06d}.png")
    images = [
        {"id": index, "file_name": f"scene_{index:06d}.png"} for index in range(1, len(scenes) + 1)
    ]
    categories = [{"id": index, "name": shape} for index, shape in enumerate(SHAPES, 1)]
    things = [(index, thing.shape) for index, s in enumerate(scenes, 1) for thing in s.things]
    instances = [
        {"id": number, "image_id": index, "category_id": SHAPES.index(shape) + 1}
        for number, (index, shape) in enumerate(things)
    ]
    captions = [
        {"id": index * REFERENCE_CAPTIONS + copy, "image_id": index, "caption": caption}
        for index, scene in enumerate(scenes, 1)
        for copy in range(REFERENCE_CAPTIONS)
        for caption in (language.alt_text(scene, rng),)
    ]
    folder = root / "annotations"
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (("instances", instances), ("captions", captions)):
        document = {"images": images, "annotations": rows, "categories": categories}
        (folder / f"{name}_val2014.json").write_text(json.dumps(document))
    lines = [", ".join([shape, *_SYNONYMS.get(shape, [])]) for shape in SHAPES]
    (root / "synonyms.txt").write_text("\n".join(lines) + "\n")


def write_benchmarks(root: Path, seed: int, sizes: Sizes) -> None:
    """Write pope/, mmvp/, mmvp_vlm/ and chair/ under ``root``, all from held-out scenes."""
    for name, write, number in (
        ("pope", _write_pope, sizes.pope_pictures),
        ("mmvp", _write_mmvp, sizes.mmvp_pairs),
        ("mmvp_vlm", _write_mmvp_vlm, sizes.mmvp_vlm_pairs),
        ("chair", _write_chair, sizes.chair_pictures),
    ):
        (root / name).mkdir(parents=True, exist_ok=True)
        write(root / name, seed, number)
