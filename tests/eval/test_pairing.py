"""Comparing results: by hand, over seeds, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from eval.benchmarks.pope import Pope
from eval.pairing import compare, compare_directories
from eval.result import Result, read_result, write_result

POPE = Pope()
PROVENANCE: dict[str, object] = {"data": {"coco_pope_random.json": "1"}, "parser": POPE.parser}
IDS = ["10000001", "10000002", "20000001", "20000002", "1", "2"]


def result(root: Path, answers: str) -> Result:
    """POPE's six questions answered by letters, y or n, in order of IDS."""
    words = {"y": "Yes", "n": "No"}
    given = {identity: words[letter] for identity, letter in zip(IDS, answers, strict=True)}
    units = POPE.score(root, POPE.load(root), given)
    return Result("pope", tuple(units), PROVENANCE, str(root))


def test_one_seed_by_hand(pope_root: Path) -> None:
    # Right is "yn" in each split. Random: TP, FP -> TP, TN. Popular: FN, TN -> TP, FP.
    found = compare([result(pope_root, "yynnyn")], [result(pope_root, "ynyyyn")])
    by_name = {difference.metric: difference for difference in found.differences}
    assert by_name["random/f1"].baseline == pytest.approx(2 / 3)
    assert by_name["random/f1"].difference == pytest.approx(1 / 3)
    assert by_name["popular/f1"].candidate == pytest.approx(2 / 3)
    assert by_name["adversarial/f1"].difference == 0
    assert by_name["mean_f1"].difference == pytest.approx((1 / 3 + 2 / 3 + 0) / 3)
    assert by_name["mean_f1"].per_seed == (by_name["mean_f1"].difference,)
    assert [flip.after.id for flip in found.gained] == ["10000002", "20000001"]
    assert [flip.after.id for flip in found.lost] == ["20000002"]
    assert found.signs is not None
    assert (found.signs.better, found.signs.worse, found.signs.p) == (2, 1, 1.0)
    shares = {share.name: (share.baseline, share.candidate) for share in found.categories}
    assert shares == {"random": (0.5, 1), "popular": (0.5, 0.5), "adversarial": (1, 1)}
    assert found.headlines[0].metric == "mean_f1"


def test_seeds_are_pooled_by_question(pope_root: Path) -> None:
    right, wrong = "ynynyn", "nyynyn"  # the wrong one misses both random questions
    found = compare(
        [result(pope_root, wrong), result(pope_root, right)],
        [result(pope_root, right), result(pope_root, right)],
    )
    by_name = {difference.metric: difference for difference in found.differences}
    assert by_name["random/accuracy"].baseline == 0.5
    assert by_name["random/accuracy"].difference == 0.5
    assert by_name["random/accuracy"].per_seed == (1.0, 0.0)
    assert [(flip.seed, flip.after.id) for flip in found.gained] == [
        (0, "10000001"), (0, "10000002"),
    ]  # fmt: skip
    # Two questions have more right answers over the seeds, none fewer: p = 2 * 1/4.
    assert found.signs is not None
    assert (found.signs.better, found.signs.worse, found.signs.p) == (2, 0, 0.5)


def test_same_question_in_two_splits_counts_once(pope_root: Path) -> None:
    popular = pope_root / "coco_pope_popular.json"
    popular.write_text((pope_root / "coco_pope_random.json").read_text())
    found = compare([result(pope_root, "nnnnyn")], [result(pope_root, "ynynyn")])
    assert len(found.gained) == 2
    assert found.signs is not None
    assert (found.clusters, found.signs.better) == (4, 1)


@pytest.mark.parametrize("key", ["data", "parser", "pictures", "decoding", "prompt"])
def test_results_that_differ_in_kind_are_refused(pope_root: Path, key: str) -> None:
    one = result(pope_root, "ynynyn")
    one = replace(one, provenance=one.provenance | {key: "this"})
    other = replace(one, provenance=one.provenance | {key: "that"})
    with pytest.raises(ValueError, match=f"pope: the results differ in their {key}"):
        compare([one], [other])


def test_other_questions_are_refused(pope_root: Path) -> None:
    one = result(pope_root, "ynynyn")
    with pytest.raises(ValueError, match=r"same questions \(6 and 5 units\)"):
        compare([one], [replace(one, units=one.units[:-1])])


def test_directories(pope_root: Path, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    write_result(POPE, result(pope_root, "ynynyn"), one / "pope.json")
    with pytest.raises(FileNotFoundError, match="other: holds no result"):
        compare_directories([one], [other])
    write_result(POPE, result(pope_root, "ynynyn"), other / "mmvp.json")
    with pytest.raises(ValueError, match="1 baseline and 2 candidate directories"):
        compare_directories([one], [other, one])
    with pytest.raises(ValueError, match="no benchmark has a result in every one"):
        compare_directories([one], [other])
    [comparison] = compare_directories([one], [one])
    assert comparison.benchmark.name == "pope"
    assert all(difference.verdict == "unclear" for difference in comparison.differences)


def test_result_file_round_trip(pope_root: Path, tmp_path: Path) -> None:
    before = result(pope_root, "ynynyn")
    write_result(POPE, before, tmp_path / "pope.json")
    assert read_result(tmp_path / "pope.json") == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a result"),
        ("[]", "not a result"),
        ('{"format": 1}', "not a result"),
        ('{"format": 0}', "result format 0"),
        ('{"format": 1, "units": [{"id": "1"}]}', "not a result"),
    ],
)
def test_bad_result_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "pope.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_result(path)
