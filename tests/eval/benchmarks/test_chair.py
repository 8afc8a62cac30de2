"""CHAIR: the rule by hand, ground truth from COCO files, and POPE's published caption table."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from eval.answers import join_answers
from eval.benchmarks.chair import Chair, draw
from eval.benchmarks.coco_objects import ObjectReader
from eval.registry import BENCHMARKS
from eval.result import point_metrics

CHAIR = Chair()
WriteLines = Callable[[Path, Sequence[dict[str, object]]], None]


@pytest.mark.parametrize(
    ("caption", "objects"),
    [
        ("Two men and a taxi.", ["person", "car"]),
        ("A dog, a dog and DOGS!", ["dog", "dog", "dog"]),
        ("A bear cub", ["bear", "bear"]),
        # Double words.
        ("A baby bear", ["bear"]),
        ("a bow tie", ["tie"]),
        ("wine glasses on a table", ["wine glass"]),
        # The toilet's seat is no chair, elsewhere a seat is one.
        ("a toilet with a red seat", ["toilet"]),
        ("a toilet seat", ["toilet"]),
        ("an empty seat", ["chair"]),
        # A full stop parts from its word at the end of a sentence, before a closing quote too.
        ('It reads "free dog." The dog sleeps', ["dog", "dog"]),
        ("a dog. a car", ["dog", "car"]),
        ("a cartoon of a doghouse", []),
        ("", []),
    ],
)
def test_mentions(chair_root: Path, caption: str, objects: list[str]) -> None:
    assert ObjectReader.from_file(chair_root / "synonyms.txt").mentions(caption) == objects


def test_ground_truth_is_masks_and_captions(chair_root: Path) -> None:
    questions = CHAIR.load(chair_root)
    assert [(q.id, q.label) for q in questions] == [("7", "car, person"), ("8", "dog")]
    assert questions[0].image == "images/COCO_val2014_000000000007.jpg"
    assert questions[0].prompt == "Please describe this image in detail."


def test_counts_by_hand(chair_root: Path) -> None:
    questions = CHAIR.load(chair_root)
    answers = {"7": "A woman beside a car and a dog and a dog.", "8": "A dog."}
    units = CHAIR.score(chair_root, questions, answers)
    assert [unit.right for unit in units] == [False, True]
    assert units[0].reading == "invented: dog"
    metrics = point_metrics(CHAIR, units)
    assert metrics["chair_i"] == pytest.approx(2 / 5)
    assert metrics["chair_s"] == 0.5
    assert metrics["recall"] == 1
    assert metrics["mean_length"] == pytest.approx((11 + 2) / 2)
    assert metrics["mentions"] == 2.5


def test_captions_without_objects_leave_chair_i_undefined(chair_root: Path) -> None:
    questions = CHAIR.load(chair_root)
    metrics = point_metrics(CHAIR, CHAIR.score(chair_root, questions, {"7": "", "8": "Grass."}))
    assert metrics["chair_i"] != metrics["chair_i"]
    assert metrics["chair_s"] == 0
    assert metrics["recall"] == 0


def test_only_pictures_on_disk_are_asked_about(chair_root: Path) -> None:
    (chair_root / "images/COCO_val2014_000000000007.jpg").unlink()
    assert [question.id for question in CHAIR.load(chair_root)] == ["8"]


def test_category_without_synonyms(chair_root: Path) -> None:
    (chair_root / "synonyms.txt").write_text("dog\n")
    with pytest.raises(ValueError, match=r"no line for the category 'car'"):
        CHAIR.load(chair_root)


def test_captions_of_other_pictures(chair_root: Path) -> None:
    path = chair_root / "annotations/captions_val2014.json"
    path.write_text(json.dumps({"annotations": [{"image_id": 99, "caption": "x"}]}))
    with pytest.raises(ValueError, match="not COCO annotations of one set of pictures"):
        CHAIR.load(chair_root)


@pytest.mark.parametrize("name", ["synonyms.txt", "annotations/instances_val2014.json"])
def test_missing_files(chair_root: Path, name: str) -> None:
    (chair_root / name).unlink()
    with pytest.raises(FileNotFoundError, match="CHAIR"):
        CHAIR.load(chair_root)


@pytest.mark.parametrize("name", ["Instruction1_llava", "Instruction1_minigpt-4"])
def test_popes_caption_table(shared: Path, name: str) -> None:
    expected = json.loads((shared / "PARITY.json").read_text())["chair_pope_paper_table"][name]
    root = shared / "chair"
    captions = root / f"{name}.json.gz"
    answered, answers = join_answers(
        CHAIR, CHAIR.load(root), CHAIR.read_answers(captions, ()), captions
    )
    units = CHAIR.score(root, answered, answers)
    sums = {key: sum(unit.counts[key] for unit in units) for key in units[0].counts}
    assert sums["hallucinated"] == expected["hallucinated_words"]
    assert sums["mentions"] == expected["coco_words"]
    assert sums["any"] == expected["hallucinated_captions"]
    assert sums["captions"] == expected["captions"]
    metrics = point_metrics(CHAIR, units)
    published = expected["published CHAIRi/CHAIRs/Len"]
    assert published == (
        f"{100 * metrics['chair_i']:.1f}/{100 * metrics['chair_s']:.1f}/"
        f"{metrics['mean_length']:.1f}"
    )


def test_draw_is_the_smallest_hashes_and_asks_for_missing_pictures(chair_root: Path) -> None:
    first = min(("7", "8"), key=lambda i: hashlib.sha256(i.encode()).digest())
    (chair_root / f"images/COCO_val2014_{int(first):012d}.jpg").unlink()
    one = Chair(drawn=1)
    (question,) = one.load(chair_root)
    assert (question.id, one.part(question)) == (first, "")
    assert draw([str(i) for i in range(1000)], 3) == ["886", "286", "671"]  # by sha256sum
    with pytest.raises(ValueError, match="has 2 pictures, and 500 are drawn"):
        Chair(drawn=500).load(chair_root)


def test_protocols_have_their_limits() -> None:
    limits = {b.name: b.max_new_tokens for b in BENCHMARKS.values() if isinstance(b, Chair)}
    assert limits == {"chair": 512, "chair_opera": 512, "chair_64": 64, "chair_512": 512}
    parsers = {b.parser for b in BENCHMARKS.values() if isinstance(b, Chair)}
    assert parsers == {"chair-original-1", "chair-opera-1", "chair-original-1, 500 drawn"}


@pytest.mark.parametrize("rule", [Chair(drawn=1), BENCHMARKS["chair_opera"]])
def test_files_of_objects_are_for_the_original_rule(chair_root: Path, rule: Chair) -> None:
    (chair_root / "annotations/captions_val2014.json").unlink()
    (chair_root / "objects.json").write_text('{"7": ["car"]}')
    assert [question.id for question in CHAIR.load(chair_root)] == ["7"]
    with pytest.raises(FileNotFoundError, match="files of objects are made by the original rule"):
        rule.load(chair_root)


def test_captions_longer_than_the_protocol(tmp_path: Path, write_lines: WriteLines) -> None:
    path = tmp_path / "a.jsonl"
    write_lines(path, [{"image_id": i, "caption": "dog " * i} for i in (64, 65)])
    assert len(CHAIR.read_answers(path, ())) == 2
    message = r"1 captions have more than 64 words, .*: 65; score them as --benchmark chair"
    with pytest.raises(ValueError, match=message):
        Chair(64, drawn=1).read_answers(path, ())


def test_unfinished_last_sentence_counts(chair_root: Path) -> None:
    questions = CHAIR.load(chair_root)[1:]
    (unit,) = CHAIR.score(chair_root, questions, {"8": "A dog. There is also a car and a"})
    assert unit.reading == "invented: car"


def test_order_and_byte_order_mark_change_nothing(chair_root: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    rows = [{"image_id": i, "caption": f"{i} Hund 狗"} for i in (8, 7)]
    path.write_text(json.dumps(rows), encoding="utf-8-sig")
    answers = dict(CHAIR.read_answers(path, CHAIR.load(chair_root)))
    assert answers == {"7": "7 Hund 狗", "8": "8 Hund 狗"}
    metrics = point_metrics(CHAIR, CHAIR.score(chair_root, CHAIR.load(chair_root), answers))
    # Captions of another language are seen for what they are: no mention at all.
    assert (metrics["mentions"], metrics["recall"], metrics["chair_s"]) == (0, 0, 0)


def test_a_megabyte_is_read_in_seconds(chair_root: Path) -> None:
    reader = ObjectReader.from_file(chair_root / "synonyms.txt")
    start = time.process_time()
    assert len(reader.mentions("a dog and a car. " * 60_000)) == 120_000
    assert time.process_time() - start < 10  # 0.8 s where nothing else runs
