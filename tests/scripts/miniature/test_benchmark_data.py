"""Benchmarks of the miniature, read back by the benchmarks that read the official files."""

from __future__ import annotations

import csv
import random
import re
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from eval.benchmarks.chair import Chair
from eval.benchmarks.mmvp import SUFFIX as LETTER_SUFFIX
from eval.benchmarks.mmvp import Mmvp
from eval.benchmarks.pope import SPLITS, Pope
from eval.benchmarks.pope import SUFFIX as WORD_SUFFIX
from eval.pictures import check_images, open_picture
from eval.tower.mmvp_vlm import MmvpVlm, read_pairs
from scripts.miniature import benchmark_data
from scripts.miniature import questions as asked
from scripts.miniature.world import EDITS, SHAPES, Scene, random_edit
from tests.scripts.miniature import oracle
from tests.scripts.miniature.conftest import TINY, Written


def drawn(written: Written, name: str) -> list[Scene]:
    """The scenes of one benchmark's pictures, in the order they were written."""
    numbers = {
        "pope": TINY.pope_pictures,
        "mmvp": 2 * TINY.mmvp_pairs,
        "mmvp_vlm": 2 * TINY.mmvp_vlm_pairs,
        "chair": TINY.chair_pictures,
    }
    start = sum(list(numbers.values())[: list(numbers).index(name)])
    return written.benchmarks.drawn[start : start + numbers[name]]


def test_every_benchmark_scene_is_held_out(written: Written) -> None:
    assert len(written.benchmarks.drawn) == 11 + 40 + 40 + 7
    assert all(scene.held_out for scene in written.benchmarks.drawn)


def test_training_and_benchmarks_ask_in_the_same_words() -> None:
    """A model learns the instruction that the benchmark's official protocol puts at the end."""
    assert asked.SHORT_SUFFIX == WORD_SUFFIX
    assert asked.LETTER_SUFFIX == LETTER_SUFFIX


def test_pope_is_balanced_and_true(written: Written) -> None:
    root = written.root / "pope"
    questions = Pope().load(root)
    assert len(questions) == len(SPLITS) * 6 * TINY.pope_pictures
    labels: dict[tuple[str, str], list[str]] = defaultdict(list)
    for question in questions:
        assert question.image is not None
        scene = written.benchmarks.scene_of(open_picture(root, question.image))
        text = question.prompt.removesuffix(WORD_SUFFIX)
        assert oracle.answer(scene, text).lower() == question.label
        labels[question.category, question.image].append(question.label)
    assert all(Counter(found) == {"yes": 3, "no": 3} for found in labels.values())


def test_popes_absent_objects_are_popular_or_adversarial_as_the_file_says(
    written: Written,
) -> None:
    root, scenes = written.root / "pope", drawn(written, "pope")
    questions = Pope().load(root)
    frequency = Counter(s for scene in scenes for s in {t.shape for t in scene.things})
    together = Counter[tuple[str, str]]()
    for scene in scenes:
        shapes = {thing.shape for thing in scene.things}
        together.update((a, b) for a in shapes for b in shapes)
    for index, scene in enumerate(scenes):
        present = {thing.shape for thing in scene.things}
        absent = [shape for shape in SHAPES if shape not in present]
        asked = {
            split: {
                re.findall(rf"({oracle.SHAPE}) in the image", q.prompt)[0]
                for q in questions
                if q.image == f"images/scene_{index:06d}.png"
                and (q.category, q.label) == (split, "no")
            }
            for split in SPLITS
        }
        assert all(len(shapes) == 3 for shapes in asked.values())
        for split, weight in (
            ("popular", dict(frequency)),
            ("adversarial", {s: sum(together[s, p] for p in present) for s in SHAPES}),
        ):
            others = [weight.get(shape, 0) for shape in absent if shape not in asked[split]]
            assert min(weight.get(s, 0) for s in asked[split]) >= max(others, default=0)


def test_mmvp_pairs_ask_one_question_whose_answers_differ(written: Written) -> None:
    root, scenes = written.root / "mmvp", drawn(written, "mmvp")
    questions = Mmvp().load(root)
    check_images(root, [question.image or "" for question in questions])
    assert len(questions) == 2 * TINY.mmvp_pairs
    for number, question in enumerate(questions):
        assert question.image == f"MMVP Images/{number + 1}.jpg"
        assert question.label == "ab"[number % 2]
        assert question.prompt == questions[number - number % 2].prompt
        text = question.prompt.removesuffix(LETTER_SUFFIX)
        found = re.fullmatch(r"(.*) \(a\) (.*) \(b\) (.*)", text)
        assert found, text
        options = (found[2], found[3])
        assert oracle.right_options(scenes[number], found[1], options) == [question.label]


def test_mmvps_csv_is_the_released_one_in_form(written: Written) -> None:
    with (written.root / "mmvp" / "Questions.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["lndex", "Question", "Options", "Correct Answer"]
    assert [row[0] for row in rows] == [str(n) for n in range(1, 2 * TINY.mmvp_pairs + 1)]


def test_which_scene_of_an_edit_comes_first_is_chance() -> None:
    """Else (a) would mean "no" of every added thing."""
    rng = random.Random(0)
    edits = [random_edit(rng, "add", held_out=True) for _ in range(100)]
    firsts = [benchmark_data._mmvp_rows(edit, rng)[0][0] == edit.source for edit in edits]
    assert sum(firsts) == pytest.approx(50, abs=20)


def test_mmvp_vlm_statements_fit_their_own_picture_alone(written: Written) -> None:
    root, scenes = written.root / "mmvp_vlm", drawn(written, "mmvp_vlm")
    pairs = read_pairs(MmvpVlm().files(root)[0], "MLLM_VLM Images")
    assert [pair[0].pattern for pair in pairs] == [kind for kind in EDITS for _ in range(2)]
    check_images(root, [statement.image for pair in pairs for statement in pair])
    for number, (first, second) in enumerate(pairs):
        assert (first.id, second.id) == (2 * number + 1, 2 * number + 2)
        assert first.text != second.text
        source, target = scenes[2 * number : 2 * number + 2]
        assert source != target
        for scene, statement in ((source, first), (target, second)):
            assert f" on {scene.background}" in statement.text


def test_chairs_ground_truth_is_what_the_pictures_show(written: Written) -> None:
    root = written.root / "chair"
    benchmark = Chair()
    questions = benchmark.load(root)
    assert len(questions) == TINY.chair_pictures
    truths: dict[str, set[str]] = {}
    for question in questions:
        assert question.image is not None
        scene = written.benchmarks.scene_of(open_picture(root, question.image))
        truths[question.id] = {thing.shape for thing in scene.things}
        assert set(question.label.split(", ")) == truths[question.id]
    right = {i: f"There is a {' and a '.join(sorted(shapes))}." for i, shapes in truths.items()}
    units = benchmark.score(root, questions, right)
    assert all(unit.counts["hallucinated"] == 0 for unit in units)
    assert all(unit.counts["objects_named"] == len(truths[unit.id]) for unit in units)


def test_chair_reads_every_object_in_singular_and_plural(written: Written) -> None:
    root = written.root / "chair"
    questions = Chair().load(root)[:1]
    for shape in SHAPES:
        for text in (
            f"There is a {shape} here.",
            f"Two {shape}{'es' if shape.endswith('ss') else 's'}.",
        ):
            [unit] = Chair().score(root, questions, {questions[0].id: text})
            assert unit.counts["mentions"] == 1, text
            assert unit.counts["hallucinated"] == (shape not in questions[0].label.split(", "))


def test_files_lie_where_the_official_releases_have_them(written: Written) -> None:
    def names(folder: str) -> set[str]:
        return {path.name for path in (written.root / folder).iterdir()}

    assert names("pope") == {f"coco_pope_{split}.json" for split in SPLITS} | {"images"}
    assert names("mmvp") == {"Questions.csv", "MMVP Images"}
    assert names("mmvp_vlm") == {"Questions.csv", "MLLM_VLM Images"}
    assert names("mmvp_vlm/MLLM_VLM Images") == set(EDITS)
    assert names("chair") == {"annotations", "images", "synonyms.txt"}
    assert Path(written.root / "complete").is_file()
