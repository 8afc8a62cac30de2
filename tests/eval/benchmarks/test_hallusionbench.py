"""HallusionBench: groups and quirks by hand, the published counts, an independent scorer."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from pathlib import Path

import pytest

from eval import run
from eval.answers import join_answers
from eval.benchmarks.hallusionbench import HallusionBench, VlmEvalKitHallusionBench
from eval.benchmarks.hallusionbench_rows import read_questions
from eval.judging import UNKNOWN
from eval.registry import find_benchmark
from eval.result import count_matrix, count_names, point_metrics, read_result

OFFICIAL, VLMEVALKIT = HallusionBench(), VlmEvalKitHallusionBench()
IDS = ["VD_illusion_0_0_0", "VD_illusion_0_0_1", "VD_illusion_0_1_0", "VD_illusion_0_1_1",
       "VS_chart_0_0_0", "VS_chart_0_1_0", "VS_chart_0_2_0"]  # fmt: skip


def official_scores(rows: list[dict[str, str]]) -> dict[str, float]:
    """The official metrics, written anew from their description, over rows with a `verdict`."""
    pairs, figures, easy, hard = (defaultdict(list) for _ in range(4))
    right, predicted_yes, truly_yes = [], [], []
    for row in rows:
        no_figure = row["category"] == "VS" and row["figure_id"] == "0"
        correct = row["verdict"] == "1" or (row["verdict"] == "2" and no_figure)
        right.append(correct)
        truly_yes.append(row["gt_answer"] == "1")
        predicted_yes.append(int(correct) == int(row["gt_answer"]))
        base = (row["category"], row["subcategory"], row["set_id"])
        pairs[*base, row["question_id"]].append(correct)
        (hard if row["visual_input"] == "2" else easy)[*base, row["question_id"]].append(correct)
        if not no_figure:
            figures[*base, row["figure_id"]].append(correct)
    wrong = [yes for yes, correct in zip(truly_yes, right, strict=True) if not correct]

    def share(groups: dict[tuple[str, ...], list[bool]]) -> float:
        return sum(all(group) for group in groups.values()) / len(groups)

    return {
        "pair_accuracy": share(pairs),
        "figure_accuracy": share(figures),
        "easy_accuracy": share(easy),
        "hard_accuracy": share(hard),
        "accuracy": sum(right) / len(right),
        "yes_difference": (sum(predicted_yes) - sum(truly_yes)) / len(rows),
        "false_positive_ratio": wrong.count(False) / len(wrong),
        "unclear": sum(row["verdict"] == "2" for row in rows) / len(rows),
    }


def identity(row: dict[str, str]) -> str:
    keys = ("category", "subcategory", "set_id", "figure_id", "question_id")
    return "_".join(row[key] for key in keys)


def score(root: Path, verdicts: dict[str, str]) -> dict[str, float]:
    questions = [q for q in OFFICIAL.load(root) if q.id in verdicts]
    answers = dict.fromkeys(verdicts, "")
    return point_metrics(OFFICIAL, OFFICIAL.score_verdicts(root, questions, answers, verdicts))


def test_questions(hallusionbench_root: Path) -> None:
    questions = OFFICIAL.load(hallusionbench_root)
    assert [question.id for question in questions] == IDS
    assert [q.id for q in VLMEVALKIT.load(hallusionbench_root)] == IDS[:4] + IDS[5:]
    assert (questions[2].prompt, questions[2].label) == ("Are they equal?", "no")
    assert questions[2].image == "hallusion_bench/VD/illusion/0_1.png"
    assert questions[4].image is None
    images = [question.image for question in questions if question.image is not None]
    assert all((hallusionbench_root / image).is_file() for image in images)


def test_groups_by_hand(hallusionbench_root: Path) -> None:
    # Wrong: question 1 of the illusion's edited figure. "Unclear": both without and with a figure.
    metrics = score(hallusionbench_root, dict(zip(IDS, "1110221", strict=True)))
    assert metrics["accuracy"] == pytest.approx(5 / 7)  # without a figure, unclear is right
    assert metrics["pair_accuracy"] == pytest.approx(1 / 3)
    assert metrics["figure_accuracy"] == pytest.approx(2 / 4)  # "no figure" is no figure
    assert metrics["easy_accuracy"] == pytest.approx(2 / 3)
    assert metrics["hard_accuracy"] == pytest.approx(2 / 3)
    assert metrics["unclear"] == pytest.approx(2 / 7)
    assert metrics["VS/accuracy"] == metrics["VS_chart/accuracy"] == pytest.approx(2 / 3)
    assert metrics["VD_illusion/pair_accuracy"] == 0.5
    # Yes said: rows 0; labels yes: rows 0, 3, 5. Both wrong answers are to yes-questions.
    assert metrics["yes_difference"] == pytest.approx((1 - 3) / 7)
    assert metrics["false_positive_ratio"] == 0


def test_words_decide_where_there_is_no_judge(hallusionbench_root: Path) -> None:
    questions = OFFICIAL.load(hallusionbench_root)
    texts = ["Yes, both.", "Yes", "no", "They look alike.", "", "Yes and no", "No."]
    answers = dict(zip(IDS, texts, strict=True))
    units = OFFICIAL.score(hallusionbench_root, questions, answers)
    assert [unit.reading for unit in units] == [
        "correct", "incorrect", "correct", "unclear", "unclear", "unclear", "correct"
    ]  # fmt: skip
    assert [unit.right for unit in units] == [True, False, True, False, True, False, True]


def test_published_counts_from_the_command_line(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = json.loads((shared / "PARITY.json").read_text())["hallusionbench_gpt4v_269"]
    root = shared / "hallusionbench"
    answers = root / "HallusionBench_gpt4v_269_humancheck.json"
    arguments = ["--benchmark", "hallusionbench", "--data-root", root, "--answers", answers]
    assert run.main([str(a) for a in [*arguments, "--output", tmp_path]]) == 0
    printed = capsys.readouterr().out
    assert "269 of 1129 questions" in printed
    for percent in ("27.35", "35.14", "80.34", "27.84", "65.43"):
        assert f" {percent} %" in printed
    result = read_result(tmp_path / "hallusionbench.json")
    assert result.provenance["judge"] == {"name": UNKNOWN}
    sums: defaultdict[str, float] = defaultdict(float)
    for unit in result.units:
        for name, value in unit.counts.items():
            sums[name.split("/")[1]] += value
    names = {"qAcc": "pair", "fAcc": "figure", "easy": "easy", "hard": "hard"}
    for published, ours in names.items():
        assert [sums[f"{ours}_right"], sums[ours]] == expected[published]
    assert [sums["right"], sums["questions"]] == expected["aAcc"]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_independent_scorer_on_random_verdicts(shared: Path, seed: int) -> None:
    root = shared / "hallusionbench"
    rows = json.loads((root / "HallusionBench.json").read_text())
    draw = random.Random(seed)
    if seed:  # any subset may be scored
        rows = draw.sample(rows, 400)
    for row in rows:
        row["verdict"] = draw.choices("012", [2, 6, 1])[0]
    metrics = score(root, {identity(row): row["verdict"] for row in rows})
    for name, value in official_scores(rows).items():
        assert metrics[name] == pytest.approx(value, abs=1e-12), name
    for category in ("VD", "VS"):
        part = official_scores([row for row in rows if row["category"] == category])
        for name in ("pair_accuracy", "figure_accuracy", "accuracy"):
            assert metrics[f"{category}/{name}"] == pytest.approx(part[name], abs=1e-12)


def test_clusters_hold_whole_groups(shared: Path) -> None:
    """The sums of some clusters are those of their questions alone: fit for resampling."""
    root = shared / "hallusionbench"
    rows = json.loads((root / "HallusionBench.json").read_text())
    draw = random.Random(7)
    verdicts = {identity(row): draw.choice("0112") for row in rows}
    questions = OFFICIAL.load(root)
    units = OFFICIAL.score_verdicts(root, questions, dict.fromkeys(verdicts, ""), verdicts)
    drawn = set(draw.sample(sorted({unit.cluster for unit in units}), 60))
    some = [row | {"verdict": verdicts[identity(row)]} for row in rows
            if "_".join([row["category"], row["subcategory"], row["set_id"]]) in drawn]  # fmt: skip
    metrics = point_metrics(OFFICIAL, [unit for unit in units if unit.cluster in drawn])
    for name, value in official_scores(some).items():
        assert metrics[name] == pytest.approx(value, abs=1e-12)
    names = count_names(units)
    totals = dict(zip(names, count_matrix(units, names).sum(axis=0), strict=True))
    for group, number in {"pair": 455, "figure": 346, "easy": 455, "hard": 430}.items():
        assert sum(n for name, n in totals.items() if name.endswith(f"/{group}")) == number


# Qwen2-VL-7B as scored by VLMEvalKit and shown in its issue 825: aAcc, fAcc, qAcc in percent.
VLMEVALKIT_SCORES = {
    "": (67.92849631966351, 37.861271676300575, 43.956043956043956),
    "VD": (65.31302876480541, 39.565217391304344, 37.545126353790614),
    "VS": (72.22222222222221, 34.48275862068966, 53.93258426966292),
    "VD_video": (55.88235294117647, 14.583333333333334, 17.391304347826086),
    "VS_map": (70.3125, 36.36363636363637, 40.625),
    "VS_ocr": (61.111111111111114, 34.61538461538461, 22.22222222222222),
    "VS_chart": (78.46153846153847, 37.5, 68.42105263157895),
    "VD_figure": (75.0, 53.65853658536586, 51.28205128205128),
    "VD_ocr": (83.14606741573034, 69.76744186046511, 67.44186046511628),
    "VD_illusion": (64.58333333333334, 38.70967741935484, 34.72222222222222),
    "VS_table": (71.42857142857143, 28.57142857142857, 58.139534883720934),
    "VD_math": (59.25925925925925, 22.22222222222222, 33.33333333333333),
}


def test_groups_are_those_of_vlmevalkits_published_scores(shared: Path) -> None:
    """Each of its 36 percentages is a whole number of our groups."""
    root = shared / "hallusionbench"
    questions = VLMEVALKIT.load(root)
    assert len(questions) == 951
    units = VLMEVALKIT.score(root, questions, {question.id: "" for question in questions})
    for part, percentages in VLMEVALKIT_SCORES.items():
        inside = [u for u in units if u.category == part or u.category.startswith(f"{part}_")
                  or not part]  # fmt: skip
        for group, percent in zip(("questions", "figure", "pair"), percentages, strict=True):
            whole = sum(u.counts.get(f"{u.category}/{group}", 0) for u in inside)
            right = percent * whole / 100
            assert right == pytest.approx(round(right), abs=1e-9), (part, group)


def test_vlmevalkits_average(hallusionbench_root: Path) -> None:
    questions = VLMEVALKIT.load(hallusionbench_root)
    texts = ["Yes", "No", "no, they aren't", "**Yes**", "Yes", "yes!"]
    answers = {q.id: text for q, text in zip(questions, texts, strict=True)}
    metrics = point_metrics(VLMEVALKIT, VLMEVALKIT.score(hallusionbench_root, questions, answers))
    assert metrics["accuracy"] == pytest.approx(4 / 6)
    assert metrics["figure_accuracy"] == pytest.approx(2 / 4)
    assert metrics["pair_accuracy"] == pytest.approx(1 / 3)
    assert metrics["average"] == pytest.approx((4 / 6 + 2 / 4 + 1 / 3) / 3)
    assert metrics["unclear"] == pytest.approx(1 / 6)
    assert "easy_accuracy" not in metrics


def test_lmms_evals_rule_without_a_judge(hallusionbench_root: Path) -> None:
    benchmark = find_benchmark("hallusionbench_lmms_eval")
    assert isinstance(benchmark, HallusionBench)
    questions = benchmark.load(hallusionbench_root)
    answers = {question.id: "Yesterday I would say so" for question in questions}
    metrics = point_metrics(benchmark, benchmark.score(hallusionbench_root, questions, answers))
    assert metrics["accuracy"] == 0.5  # "yes" anywhere is a yes
    answers = {question.id: "" for question in questions}
    metrics = point_metrics(benchmark, benchmark.score(hallusionbench_root, questions, answers))
    assert metrics["accuracy"] == 0.5  # everything else is a no
    assert metrics["yes_difference"] == -0.5
    # With care, none of these says anything; without a picture nobody need say anything.
    assert metrics["unreadable"] == 1
    assert metrics["careful_accuracy"] == metrics["careful_pair_accuracy"] == 0


def test_careful_reading_by_hand(hallusionbench_root: Path) -> None:
    """Beside each rule; a judge's verdicts leave it as it is, and what judges read is no loss."""
    questions = OFFICIAL.load(hallusionbench_root)
    texts = ["Yes, both.", "**No**", "no", "They look alike.", "", "Yes and no", "No."]
    answers = dict(zip(IDS, texts, strict=True))
    # Labels: yes, no, no, yes; no (of no figure, where saying nothing is right), yes, no.
    by_words = point_metrics(OFFICIAL, OFFICIAL.score(hallusionbench_root, questions, answers))
    verdicts = dict.fromkeys(IDS, "correct")
    units = OFFICIAL.score_verdicts(hallusionbench_root, questions, answers, verdicts)
    judged = point_metrics(OFFICIAL, units)
    for metrics in (by_words, judged):
        assert metrics["careful_accuracy"] == pytest.approx(5 / 7)
        assert metrics["careful_figure_accuracy"] == pytest.approx(2 / 4)
        assert metrics["careful_pair_accuracy"] == pytest.approx(1 / 3)
    assert by_words["unreadable"] == pytest.approx(3 / 7)
    assert "unreadable" not in judged
    assert judged["accuracy"] == 1


def test_official_judges_prompt(hallusionbench_root: Path) -> None:
    questions = OFFICIAL.load(hallusionbench_root)
    asked = OFFICIAL.judge_questions(hallusionbench_root, questions[:1], {IDS[0]: "It {is} so"})
    assert asked[0].prompt.startswith("Imagine you are an intelligent teacher. Thoroughly read ")
    assert asked[0].prompt.endswith(
        'please generate "unclear". \n\n Question:Are they equal?\nReference answer: Truth 0.\n'
        "Prediction answer:It {is} so\nOutput:"
    )
    assert asked[0].image is None


def test_vlmevalkits_judge_is_asked_about_the_unknown_alone(hallusionbench_root: Path) -> None:
    questions = VLMEVALKIT.load(hallusionbench_root)
    answers = {question.id: "Yes" for question in questions} | {IDS[1]: "Shorter", IDS[2]: "equal"}
    asked = VLMEVALKIT.judge_questions(hallusionbench_root, questions, answers)
    assert all(question.image is None for question in asked)
    assert [question.id for question in asked] == [IDS[1], IDS[2]]
    assert asked[0].prompt.endswith("Question: Is A longer??\nAnswer: Shorter\nYour output: ")
    units = VLMEVALKIT.score_verdicts(
        hallusionbench_root, questions, answers, {IDS[0]: "No", IDS[1]: "No", IDS[2]: "Unknown"}
    )
    # The judge is not heard where the words are clear.
    assert [unit.reading for unit in units[:3]] == ["correct", "correct", "unclear"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"category": "XX"}, "row 1: category 'XX' is none of VD, VS"),
        ({"gt_answer": "yes"}, "row 1: gt_answer 'yes' is none of 0, 1"),
        ({"visual_input": "3"}, "row 1: visual_input '3'"),
        ({"question": " "}, "row 1: has no question"),
        ({"filename": None}, "row 1: visual_input 1, but filename None"),
        ({"figure_id": "1"}, "row 3: VD_illusion_0_1_0 stands twice"),
    ],
)
def test_bad_questions(hallusionbench_root: Path, change: dict[str, object], message: str) -> None:
    path = hallusionbench_root / "HallusionBench.json"
    rows = json.loads(path.read_text())
    path.write_text(json.dumps([rows[0] | change, *rows[1:]]))
    with pytest.raises(ValueError, match=message):
        read_questions(path)


def test_no_questions(hallusionbench_root: Path) -> None:
    path = hallusionbench_root / "HallusionBench.json"
    path.write_text("[]")
    with pytest.raises(ValueError, match="holds no question"):
        read_questions(path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"HallusionBench\.json: no such file"):
        OFFICIAL.load(hallusionbench_root)


def test_blanks_at_the_ends_do_not_part_groups(hallusionbench_root: Path) -> None:
    path = hallusionbench_root / "HallusionBench.json"
    rows = json.loads(path.read_text())
    path.write_text(json.dumps([{k: f"{v} " if isinstance(v, str) and k != "filename" else v
                                 for k, v in row.items()} for row in rows]))  # fmt: skip
    assert [question.id for question in OFFICIAL.load(hallusionbench_root)] == IDS


def test_a_tool_scores_its_951_at_once(hallusionbench_root: Path, tmp_path: Path) -> None:
    questions = VLMEVALKIT.load(hallusionbench_root)
    with pytest.raises(ValueError, match="5 of 6 questions of hallusionbench_vlmevalkit"):
        join_answers(VLMEVALKIT, questions, [(IDS[0], "Yes")], tmp_path)
    answered, _ = join_answers(
        OFFICIAL, OFFICIAL.load(hallusionbench_root), [(IDS[0], "Yes")], tmp_path
    )
    assert [question.id for question in answered] == [IDS[0]]
