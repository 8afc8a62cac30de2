"""Comparing results: by hand, over seeds, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from eval.arms import Arm
from eval.benchmarks.hallusionbench import HallusionBench
from eval.benchmarks.pope import Pope
from eval.comparison import Comparison, Section, headlines
from eval.judging import RULE, UNKNOWN
from eval.pairing import compare, compare_arms
from eval.report import cautions, wording
from eval.result import Result, intervals, read_result, write_result

POPE = Pope()
PROVENANCE: dict[str, object] = {"data": {"coco_pope_random.json": "1"}, "parser": POPE.parser}
IDS = ["10000001", "10000002", "20000001", "20000002", "1", "2"]


def result(root: Path, answers: str) -> Result:
    """POPE's six questions answered by letters, y or n, in order of IDS.

    Each thing that is asked about has a picture of its own, unlike in the files.
    """
    words = {"y": "Yes", "n": "No"}
    given = {identity: words[letter] for identity, letter in zip(IDS, answers, strict=True)}
    units = [replace(u, cluster=u.question) for u in POPE.score(root, POPE.load(root), given)]
    return Result("pope", tuple(units), PROVENANCE, str(root))


def pair(before: list[Result], after: list[Result]) -> tuple[Section, Comparison]:
    section = compare({"before": before, "after": after})
    return section, section.comparisons[0]


def test_one_seed_by_hand(pope_root: Path) -> None:
    # Right is "yn" in each split. Random: TP, FP -> TP, TN. Popular: FN, TN -> TP, FP.
    section, found = pair([result(pope_root, "yynnyn")], [result(pope_root, "ynyyyn")])
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
    shares = {category.name: category.shares for category in section.categories}
    assert shares == {"random": (0.5, 1), "popular": (0.5, 0.5), "adversarial": (1, 1)}
    assert headlines(section.benchmark, found.differences)[0].metric == "mean_f1"
    scores = {score.metric: score.value for score in section.standings[1].scores}
    assert scores["random/f1"] == 1
    assert scores["popular/f1"] == pytest.approx(2 / 3)


def test_seeds_are_pooled_by_question(pope_root: Path) -> None:
    right, wrong = "ynynyn", "nyynyn"  # the wrong one misses both random questions
    _, found = pair(
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
    section, found = pair([result(pope_root, "nnnnyn")], [result(pope_root, "ynynyn")])
    assert len(found.gained) == 2
    assert found.signs is not None
    assert (section.clusters, found.signs.better) == (4, 1)


@pytest.mark.parametrize("key", ["data", "parser", "pictures", "decoding", "prompt", "prompts"])
def test_results_that_differ_in_kind_are_refused(pope_root: Path, key: str) -> None:
    one = result(pope_root, "ynynyn")
    one = replace(one, provenance=one.provenance | {key: "this"})
    other = replace(one, provenance=one.provenance | {key: "that"})
    with pytest.raises(ValueError, match=f"pope: the results differ in their {key}"):
        compare({"one": [one], "other": [other]})


def test_other_questions_are_refused(pope_root: Path) -> None:
    one = result(pope_root, "ynynyn")
    fewer = replace(one, units=one.units[:-1])
    told = r"5 of 6 and of 5 units are in both.*score the answers to the same questions of both"
    with pytest.raises(ValueError, match=told):
        compare({"one": [one], "other": [fewer]})
    with pytest.raises(ValueError, match="the same questions in another order"):
        compare({"one": [one], "other": [replace(one, units=one.units[::-1])]})


def test_directories(pope_root: Path, tmp_path: Path) -> None:
    one, other = Arm("one", (tmp_path / "one",)), Arm("other", (tmp_path / "other",))
    write_result(POPE, result(pope_root, "ynynyn"), {}, tmp_path / "one" / "pope.json")
    with pytest.raises(FileNotFoundError, match="other: holds no result"):
        compare_arms(one, [other])
    write_result(POPE, result(pope_root, "ynynyn"), {}, tmp_path / "other" / "mmvp.json")
    with pytest.raises(ValueError, match="1 baseline and 2 candidate directories"):
        compare_arms(one, [Arm("two", (tmp_path / "one", tmp_path / "one"))])
    with pytest.raises(ValueError, match="no benchmark has a result in every directory of 'one'"):
        compare_arms(one, [other])
    with pytest.raises(ValueError, match="'one' is the name of several"):
        compare_arms(one, [one])
    study = compare_arms(one, [replace(one, name="again")])
    [section] = study.sections
    assert section.benchmark.name == "pope"
    assert all(d.verdict == "unclear" for d in section.comparisons[0].differences)


def test_several_candidates_are_compared_as_if_alone(pope_root: Path) -> None:
    before, one, other = (result(pope_root, a) for a in ("yynnyn", "ynyyyn", "nnnnnn"))
    together = compare({"before": [before], "one": [one], "other": [other]})
    assert [c.candidate for c in together.comparisons] == ["one", "other"]
    assert [s.arm for s in together.standings] == ["before", "one", "other"]
    for candidate, found in zip((one, other), together.comparisons, strict=True):
        _, alone = pair([before], [candidate])
        assert (found.gained, found.lost, found.signs) == (alone.gained, alone.lost, alone.signs)
        for mine, theirs in zip(found.differences, alone.differences, strict=True):
            assert mine.difference == pytest.approx(theirs.difference, nan_ok=True)
            assert mine.per_seed == pytest.approx(theirs.per_seed, nan_ok=True)


def test_a_candidate_may_lack_a_benchmark(pope_root: Path, tmp_path: Path) -> None:
    """It is said, and the other candidate is compared on it."""
    for name in ("one", "two", "three"):
        write_result(POPE, result(pope_root, "ynynyn"), {}, tmp_path / name / "pope.json")
    mmvp = replace(result(pope_root, "ynynyn"), benchmark="pope")
    write_result(POPE, replace(mmvp, benchmark="chair"), {}, tmp_path / "three" / "chair.json")
    arms = [Arm(name, (tmp_path / name,)) for name in ("one", "two", "three")]
    study = compare_arms(arms[0], arms[1:])
    assert [section.benchmark.name for section in study.sections] == ["pope"]
    assert study.left_out == ("one: three has CHAIR, it has not",)


def test_one_arm_alone(pope_root: Path, tmp_path: Path) -> None:
    write_result(POPE, result(pope_root, "yynnyn"), {}, tmp_path / "one" / "pope.json")
    study = compare_arms(Arm("one", (tmp_path / "one",)), [])
    [section] = study.sections
    assert (section.comparisons, study.family) == ((), 0)
    scores = {score.metric: score for score in section.standings[0].scores}
    assert scores["mean_accuracy"].value == pytest.approx(2 / 3)
    assert scores["mean_accuracy"].low < 2 / 3 < scores["mean_accuracy"].high


def test_a_plain_interval_is_the_binomial_one(pope_root: Path, tmp_path: Path) -> None:
    """A share p of n units has a standard error of sqrt(p (1 - p) / n)."""
    unit = result(pope_root, "ynynyn").units[0]
    right, wrong = {"random/TP": 1.0, "random/n": 1.0}, {"random/FN": 1.0, "random/n": 1.0}
    units = tuple(
        replace(unit, id=str(i), cluster=str(i), right=i < 240, counts=right if i < 240 else wrong)
        for i in range(400)
    )
    path = tmp_path / "pope.json"
    write_result(POPE, Result("pope", units, PROVENANCE, ""), intervals(POPE, units), path)
    [section] = compare_arms(Arm("one", (tmp_path,)), []).sections
    score = next(s for s in section.standings[0].scores if s.metric == "random/accuracy")
    half = 1.96 * (0.6 * 0.4 / 400) ** 0.5
    assert (score.value, score.low, score.high) == pytest.approx(
        (0.6, 0.6 - half, 0.6 + half), abs=0.004
    )
    told = json.loads(path.read_text())["intervals"]
    assert told["random/accuracy"] == [score.low, score.high]
    assert told["mean_accuracy"] is None  # two splits have no answers


def test_the_family_is_every_headline_of_every_candidate(pope_root: Path, tmp_path: Path) -> None:
    for name, answers in (("a", "nnnnnn"), ("b", "ynynyn"), ("c", "yyyyyy")):
        write_result(POPE, result(pope_root, answers), {}, tmp_path / name / "pope.json")
    arms = [Arm(name, (tmp_path / name,)) for name in "abc"]
    study = compare_arms(arms[0], arms[1:])
    tests = {
        (c.candidate, d.metric): d.test
        for section in study.sections
        for c in section.comparisons
        for d in c.differences
        if d.test is not None
    }
    assert set(tests) == {(c, m) for c in "bc" for m in ("mean_f1", "mean_accuracy")}
    assert all(test.family == study.family == 4 for test in tests.values())
    # Equal splits: mean accuracy is the share of right questions. 3 of 3 changed ones got better.
    assert (tests["b", "mean_accuracy"].name, tests["b", "mean_accuracy"].p) == ("McNemar", 0.25)
    assert tests["b", "mean_f1"].name == "bootstrap"
    # By hand: sorted raw p-values times 4, 3, 2, 1, never falling, at most 1.
    ranked, least = sorted(tests.values(), key=lambda test: test.p), 0.0
    for test, left in zip(ranked, (4, 3, 2, 1), strict=True):
        least = min(1.0, max(least, left * test.p))
        assert test.corrected == pytest.approx(least)


def test_groups_are_tested_by_what_they_are(pope_root: Path) -> None:
    """One question in two splits is one sign; questions about one figure are for the bootstrap."""
    before, after = result(pope_root, "nynyny"), result(pope_root, "ynynyn")
    [same, mixed] = [
        [replace(r, units=tuple(replace(u, cluster=key(u.id)) for u in r.units)) for r in arms]
        for key, arms in (
            (lambda identity: identity[-1:], (before, after)),  # "1" and "2" of the three splits
            (lambda identity: identity[:1], (result(pope_root, "nnnyny"), after)),
        )
    ]
    # A large group that got worse outweighs two small ones that got better: no signs there.
    keys = dict(zip(IDS, "aaaabc", strict=True))
    uneven = [
        [replace(r, units=tuple(replace(u, cluster=keys[u.id]) for u in r.units))]
        for r in (result(pope_root, "ynynny"), result(pope_root, "nynyyn"))
    ]
    for (one, other), name, p in (
        (same, "sign test", 0.5),
        (mixed, "bootstrap", None),
        ([arm[0] for arm in uneven], "bootstrap", None),
    ):
        section, found = pair([one], [other])
        test = next(d.test for d in found.differences if d.metric == "mean_accuracy")
        assert test is not None
        assert test.name == name
        assert p is None or test.p == p  # two of two groups got better
        assert "groups of units about the same pictures" in wording.flips(section, found)


def test_several_seeds_are_not_tested_by_questions_alone(pope_root: Path) -> None:
    """McNemar's would take what training varies for a finding."""
    right, wrong = result(pope_root, "ynynyn"), result(pope_root, "nyynyn")
    _, found = pair([wrong, right], [right, right])
    tests = {d.metric: d.test for d in found.differences if d.test is not None}
    assert {test.name for test in tests.values()} == {"bootstrap"}


def test_different_data_are_paired_by_id_on_request(pope_root: Path) -> None:
    """The other version's file lacks a question, rewords one, and has another truth for one."""
    one = result(pope_root, "nnynyn")
    units = list(reversed(result(pope_root, "ynynyn").units))[1:]  # in another order, without "2"
    assert units[0].id == "1"
    units[0] = replace(units[0], question="Is there an orange in the image?")
    units[1] = replace(units[1], label="yes", images=("val2014/a.jpg",))
    other = replace(one, units=tuple(units), provenance={**PROVENANCE, "data": {"x": "2"}})
    with pytest.raises(ValueError, match="--allow-different-data"):
        compare({"one": [one], "other": [other]})
    section = compare({"one": [one], "other": [other]}, allow_different_data=True)
    [found] = section.comparisons
    assert section.units == 4
    assert [flip.after.id for flip in found.gained] == ["10000001"]
    assert found.lost == ()
    assert section.mismatch is not None
    assert section.mismatch.differ == ("data", "questions")
    assert section.mismatch.dropped == {"one": 1, "other": 0}
    assert (section.mismatch.kept, section.mismatch.changed, section.mismatch.relabelled) == (
        4,
        1,
        1,
    )


def test_a_group_that_one_arm_has_in_part_is_left_out(hallusionbench_root: Path) -> None:
    """Same answers, and one arm lacks a figure: its pairs are of fewer rows, so more are right."""
    bench = HallusionBench()
    questions = bench.load(hallusionbench_root)
    answers = {question.id: "Yes" for question in questions}
    some = [question for question in questions if "VD_illusion_0_1_" not in question.id]
    assert (len(questions), len(some)) == (7, 5)
    one, other = (
        Result("hallusionbench", tuple(bench.score(hallusionbench_root, asked, answers)), {}, "")
        for asked in (questions, some)
    )
    section = compare({"one": [one], "other": [other]}, allow_different_data=True)
    changes = {d.metric: d.difference for c in section.comparisons for d in c.differences}
    assert {name: change for name, change in changes.items() if change > 0 or change < 0} == {}
    # Of the illusions both have figure 0, but not the pairs that it belongs to.
    assert section.units == 3
    assert section.mismatch is not None
    assert (section.mismatch.kept, section.mismatch.torn) == (3, 2)
    assert section.mismatch.dropped == {"one": 2, "other": 0}


def test_the_same_data_are_no_mismatch_though_others_are_allowed(pope_root: Path) -> None:
    one, other = result(pope_root, "nnynyn"), result(pope_root, "ynynyn")
    allowed = compare({"one": [one], "other": [other]}, allow_different_data=True)
    # As text, for an undefined metric is not equal to itself.
    assert repr(allowed) == repr(compare({"one": [one], "other": [other]}))


@pytest.mark.parametrize("key", ["parser", "decoding", "prompt"])
def test_nothing_else_may_differ(pope_root: Path, key: str) -> None:
    one = result(pope_root, "ynynyn")
    one = replace(one, provenance=one.provenance | {key: "this"})
    other = replace(one, provenance=one.provenance | {key: "that"})
    with pytest.raises(ValueError, match=f"differ in their {key}"):
        compare({"one": [one], "other": [other]}, allow_different_data=True)


LOCAL = {"name": "a/judge", "sha256": "1"}
SERVED = {"name": "judge", "sha256": None, "endpoint": "http://one:8000/v1"}


def judged(root: Path, *judges: object) -> list[Result]:
    """One result for each judge."""
    one = result(root, "ynynyn")
    return [replace(one, provenance={**PROVENANCE, "judge": judge}) for judge in judges]


@pytest.mark.parametrize(
    ("judge", "again"),
    [
        (LOCAL, {"name": "b/judge", "sha256": "1"}),
        (LOCAL, {"name": None, "sha256": "1"}),  # from the record beside a file of verdicts
        (SERVED, SERVED | {"endpoint": "http://two:8000/v1"}),
        (SERVED, {"name": "judge"}),
        ({"name": RULE}, {"name": RULE}),
    ],
)
def test_one_judge_by_several_names(pope_root: Path, judge: object, again: object) -> None:
    one, other = judged(pope_root, judge, again)
    section, _ = pair([one], [other])
    assert cautions.warnings(section) == []


def test_scores_over_a_part_are_said_to_be(pope_root: Path) -> None:
    whole, part = judged(pope_root, {"name": RULE}, {"name": RULE})
    whole.provenance["answered"], part.provenance["answered"] = "6 of 6", "3 of 6 questions"
    section, _ = pair([whole], [part])
    [told] = cautions.warnings(section)
    assert told.startswith("Not everything was answered (")
    assert told.count(" of 6") == 1
    assert "3 of 6 questions" in told


@pytest.mark.parametrize(
    "other",
    [{"name": "a/judge", "sha256": "2"}, SERVED, {"name": "gpt-4", "sha256": None}, {"name": RULE}],
)
def test_other_judges_are_refused(pope_root: Path, other: object) -> None:
    one, third = judged(pope_root, LOCAL, other)
    with pytest.raises(ValueError, match="differ in their judge"):
        compare({"one": [one], "third": [third]})


def test_an_unknown_judge_may_be_any_and_is_told(pope_root: Path) -> None:
    local, unknown, other = judged(pope_root, LOCAL, {"name": UNKNOWN}, {"name": "gpt-4"})
    told = "the judges of these verdicts are not known"
    for arms, names in (((unknown, local), "before"), ((unknown, unknown), "before, after")):
        section, _ = pair([arms[0]], [arms[1]])
        [warning] = cautions.warnings(section)
        assert f"{told} ({names})" in warning
    # A rule is no judge, and two that are known to differ do so beside a third.
    with pytest.raises(ValueError, match="differ in their judge"):
        pair([unknown], judged(pope_root, {"name": RULE}))
    with pytest.raises(ValueError, match="differ in their judge"):
        compare({"one": [unknown], "two": [local], "three": [other]})


def test_nothing_in_common_is_refused(pope_root: Path) -> None:
    one = result(pope_root, "ynynyn")
    other = replace(one, units=tuple(replace(unit, id=f"x{unit.id}") for unit in one.units))
    with pytest.raises(ValueError, match="no question in common"):
        compare({"one": [one], "other": [other]}, allow_different_data=True)


def test_result_file_round_trip(pope_root: Path, tmp_path: Path) -> None:
    before = result(pope_root, "ynynyn")
    write_result(POPE, before, {}, tmp_path / "pope.json")
    assert read_result(tmp_path / "pope.json") == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a result"),
        ("[]", "not a result"),
        ('{"format": 3}', "not a result"),
        ('{"format": 1}', "result format 1"),
        ('{"format": 3, "units": [{"id": "1"}]}', "not a result"),
    ],
)
def test_bad_result_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "pope.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_result(path)
