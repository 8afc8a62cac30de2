"""The report: wording by hand, files that stand alone, answers that cannot break the page."""

from __future__ import annotations

import html.parser
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from eval import compare
from eval.benchmark import Counts, Kind, Unit, ratio
from eval.benchmarks.mmvp import Mmvp
from eval.benchmarks.pope import Pope
from eval.comparison import Category, Comparison, Difference, Mismatch, Section, SignificanceTest
from eval.judging import UNKNOWN
from eval.registry import BENCHMARKS
from eval.report import cautions, wording
from eval.report.plots import MOST_CATEGORIES, shown_categories
from eval.result import Result, write_result

DIFFERENCE = Difference(
    metric="f1", title="F1", better="higher", share=True, headline=True,
    baseline=0.5, candidate=0.525, difference=0.025, low=0.004, high=0.046,
    per_seed=(0.03, 0.02), test=SignificanceTest("McNemar", 0.012, 0.024, 2),
)  # fmt: skip


@pytest.mark.parametrize(
    ("low", "high", "difference", "better", "verdict"),
    [
        (0.004, 0.046, 0.025, "higher", "gain"),
        (0.004, 0.046, 0.025, "lower", "loss"),
        (-0.046, -0.004, -0.025, "lower", "gain"),
        (-0.046, -0.004, -0.025, "higher", "loss"),
        (-0.01, 0.046, 0.02, "higher", "unclear"),
        (0.0, 0.046, 0.02, "higher", "unclear"),
        (0.004, 0.046, 0.025, "neither", "difference"),
        (float("nan"), float("nan"), float("nan"), "higher", "unclear"),
    ],
)
def test_verdicts(low: float, high: float, difference: float, better: str, verdict: str) -> None:
    found = replace(DIFFERENCE, low=low, high=high, difference=difference, better=better)
    assert found.verdict == verdict


def test_numbers_in_words() -> None:
    assert wording.value(0.5, share=True) == "50.0"
    assert wording.value(-0.025, share=True, signed=True) == "\N{MINUS SIGN}2.5"
    assert wording.value(-0.0001, share=True, signed=True) == "0.0"
    assert wording.value(0.0001, share=True, signed=True) == "0.0"
    assert wording.value(12.34, share=False) == "12.3"
    assert wording.value(float("nan"), share=True) == "n/a"
    assert wording.interval(DIFFERENCE) == "+0.4 … +4.6"
    assert wording.spread(DIFFERENCE) == "+3.0, +2.0"
    assert DIFFERENCE.seed_deviation == pytest.approx(0.005 * 2**0.5)
    assert wording.value(2.364, share=False) == "2.36"
    assert wording.value(-0.08, share=False, signed=True) == "\N{MINUS SIGN}0.08"
    assert wording.value(1510.66, share=False) == "1510.7"
    assert wording.probability(1.9e-6) == "p < 0.0001"
    assert wording.probability(0.0215) == "p = 0.0215"
    assert wording.tested(DIFFERENCE.test) == "McNemar p = 0.0120, Holm 0.0240"
    assert [wording.printed(x) for x in (87.0, 2.36, 1510.7)] == ["87.0", "2.36", "1510.7"]


def test_a_gain_that_the_correction_takes_is_told_so() -> None:
    assert (wording.outcome(DIFFERENCE), DIFFERENCE.holds) == ("gain", True)
    assert "stays clear after correction for 2 tests" in wording.ending(DIFFERENCE)
    taken = replace(DIFFERENCE, test=SignificanceTest("bootstrap", 0.012, 0.06, 5))
    assert (wording.outcome(taken), taken.verdict) == ("uncorrected", "gain")
    told = wording.ending(taken)
    assert (
        "no longer clear after correction for 5 tests (bootstrap p = 0.0120, Holm 0.0600)" in told
    )
    assert told.endswith("do not call it a gain.")
    # An interval that holds zero stays unclear whatever the test says.
    unclear = replace(taken, low=-0.01, test=SignificanceTest("McNemar", 0.001, 0.001, 1))
    assert wording.outcome(unclear) == "unclear"
    alone = replace(DIFFERENCE, test=SignificanceTest("McNemar", 0.012, 0.012, 1))
    assert wording.ending(alone) == "the interval is clear of zero, a gain (McNemar p = 0.0120)."


def test_answers_without_a_headline_are_told_so() -> None:
    """A file of answers to a part of the questions may give none."""
    part = replace(DIFFERENCE, metric="random/f1", headline=False, test=None)
    section = Section(Pope(), False, 1, 1, 1, (), (), (), None, Path())
    told = wording.sentence(section, Comparison("new", (part,), None, (), ()))
    assert told == "POPE: these answers give none of its headline metrics."


def test_sums_and_shares_change_by_points() -> None:
    """MME's perception is no share."""
    told = replace(DIFFERENCE, title="perception", share=False, baseline=1365.0, candidate=1510.0,
                   difference=145.0, low=100.0, high=190.0)  # fmt: skip
    section = Section(Made("mme", headlines=("f1",)), False, 1, 1, 1, (), (), (), None, Path())
    sentence = wording.sentence(section, Comparison("new", (told,), None, (), ()))
    assert sentence.startswith("Mme perception went from 1365.0 to 1510.0, +145.0 points (95 %")


def test_what_was_dropped_is_told() -> None:
    told = cautions.different_data(Mismatch(("data",), 2766, {"one": 234, "other": 0}, 12, 7, 3))
    assert "differ in their data: 2766 common units" in told
    assert "3 have another truth" in told
    assert "dropped were 234 of one that another arm lacks" in told
    assert "dropped were 12 whose id stands for another question" in told
    assert "dropped were 7 counted in a group that not all arms have whole" in told
    assert told.endswith("No score here is one of the whole benchmark.")
    none = cautions.different_data(Mismatch(("pictures",), 9, {"one": 0, "other": 0}, 0, 0, 0))
    assert none.endswith(
        "differ in their pictures: 9 common units were paired by id; none was dropped."
    )


def test_the_largest_categories_are_plotted() -> None:
    categories = tuple(Category(str(i), i, (0.5, 0.5)) for i in range(100))
    section = Section(Pope(), False, 1, 1, 1, (), (), categories, None, Path())
    shown = [category.units for category in shown_categories(section)]
    assert shown == list(range(100 - MOST_CATEGORIES, 100))


def test_a_gain_that_the_other_headline_does_not_share_is_told_with_it() -> None:
    """POPE at chance accuracy: F1 rises with the share of "yes" alone."""
    still = replace(DIFFERENCE, title="accuracy", difference=0.004, low=-0.018, high=0.025)
    told = wording.reservation([DIFFERENCE, still])
    assert "accuracy (+0.4, \N{MINUS SIGN}1.8 … +2.5)" in told
    assert wording.reservation([DIFFERENCE, DIFFERENCE]) == ""
    assert wording.reservation([still, DIFFERENCE]) == ""
    assert wording.reservation([DIFFERENCE]) == ""


NASTY = "Yes <script>alert(1)</script> | `x` ](http://evil) \u202e"


@pytest.fixture
def directories(pope_root: Path, mmvp_root: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Two arms: the candidate gains a POPE question and loses an MMVP pair."""
    pope, mmvp = Pope(), Mmvp()
    pope_answers = {q.id: "Yes" if q.label == "yes" else "No" for q in pope.load(pope_root)}
    mmvp_answers = {q.id: q.label for q in mmvp.load(mmvp_root)}
    arms = (
        ("before", pope_answers | {"2": NASTY}, mmvp_answers),
        ("after", pope_answers, mmvp_answers | {"3": NASTY}),
    )
    for name, for_pope, for_mmvp in arms:
        for benchmark, root, answers in ((pope, pope_root, for_pope), (mmvp, mmvp_root, for_mmvp)):
            units = benchmark.score(root, benchmark.load(root), answers)
            result = Result(benchmark.name, tuple(units), {"data": {}}, str(root))
            write_result(benchmark, result, {}, tmp_path / name / f"{benchmark.name}.json")
    return tmp_path / "before", tmp_path / "after"


class Addresses(html.parser.HTMLParser):
    """Collects everything that a page would fetch, its script tags, anchors and text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.anchors: list[str] = []
        self.places: list[str] = []
        self.scripts = 0
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        self.sources += [v or "" for k, v in attrs if k in ("src", "srcset", "data", "poster")]
        self.anchors += [v or "" for k, v in attrs if k == "href"]
        self.places += [f"#{v}" for k, v in attrs if k == "id"]

    def handle_data(self, data: str) -> None:
        self.text += " " + " ".join(data.split())


def read_page(output: Path) -> Addresses:
    """The page, which must need nothing from outside."""
    page = (output / "report.html").read_text(encoding="utf-8")
    addresses = Addresses(page)
    assert addresses.scripts == 0
    assert all(re.match(r"data:image/(png|webp);base64,", s) for s in addresses.sources)
    assert set(addresses.anchors) <= set(addresses.places)
    assert "url(" not in page
    assert "@import" not in page
    assert "<link" not in page
    return addresses


def test_report_files(directories: tuple[Path, Path], tmp_path: Path) -> None:
    before, after = directories
    output = tmp_path / "report"
    arguments = ["--baseline", str(before), "--candidate", str(after), "--output", str(output)]
    assert compare.main([*arguments, "--title", "A & B"]) == 0

    page = (output / "report.html").read_text(encoding="utf-8")
    addresses = read_page(output)
    # Forest plot, POPE's categories, one POPE picture, two MMVP pictures; all inside the page.
    assert len(addresses.sources) == 5
    assert "<title>A &amp; B</title>" in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page

    text = (output / "report.md").read_text(encoding="utf-8")
    assert "<script>" not in text
    for name in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text):
        assert (output / name).is_file()
    assert "| POPE mean F1 |" in text

    numbers = json.loads((output / "report.json").read_text(encoding="utf-8"))
    pope, mmvp = (
        numbers["benchmarks"][name]["comparisons"]["candidate"] for name in ("pope", "mmvp")
    )
    assert pope["gained"] == [[0, "2"]]
    assert mmvp["lost"] == [[0, "3-4"]]
    assert mmvp["mcnemar"] == {"better": 0, "worse": 1, "p": 1.0}
    assert numbers["tests"] == 2, "MMVP's two: POPE's questions are about one picture"
    assert "(95 % interval n/a): one picture or pair says nothing of others" in text
    tests = {metric["metric"]: metric["test"] for metric in mmvp["metrics"]}
    assert tests["pair_accuracy"] == {"name": "McNemar", "p": 1.0, "corrected": 1.0, "family": 2}
    assert tests["unreadable"] is None
    assert (output / "gains.png").stat().st_size > 1000


def test_report_without_pictures(
    directories: tuple[Path, Path], tmp_path: Path, pope_root: Path, mmvp_root: Path
) -> None:
    for path in [*(pope_root / "images").iterdir(), *(mmvp_root / "MMVP Images").iterdir()]:
        path.unlink()
    output = tmp_path / "report"
    arguments = ["--baseline", str(directories[0]), "--candidate", str(directories[1])]
    assert compare.main([*arguments, "--output", str(output)]) == 0
    assert not (output / "pictures").exists()


def test_both_readings_and_published_rows_are_in_the_page(
    directories: tuple[Path, Path], tmp_path: Path
) -> None:
    output = tmp_path / "report"
    assert compare.main(["--baseline", str(directories[0]), "--output", str(output)]) == 0
    addresses = read_page(output)
    text = (output / "report.md").read_text(encoding="utf-8")
    # One of two adversarial answers (NASTY) says yes to a no: wrong, but readable.
    assert "| adversarial: accuracy | 50.0 | 50.0 |" in text
    assert "| adversarial: unreadable | 0.0 |  |" in text
    for told in ("Both readings of the answers", "published (not measured here)", "LLaVA-1.5-7B"):
        assert told in addresses.text
        assert told in text
    assert (
        "| _published (not measured here), on the official files_ | LLaVA-1.5-7B | 24.7 |" in text
    )
    numbers = json.loads((output / "report.json").read_text(encoding="utf-8"))
    assert (numbers["candidates"], numbers["tests"]) == ([], 0)
    assert not (output / "gains.png").exists()


def test_several_candidates(directories: tuple[Path, Path], tmp_path: Path) -> None:
    before, after = map(str, directories)
    output = tmp_path / "report"
    arguments = ["--baseline", before, "--candidate", after, "--candidate", before]
    names = ["--candidate-name", "new", "--candidate-name", "the same <b>"]
    assert compare.main([*arguments, *names, "--output", str(output)]) == 0
    text = read_page(output).text
    assert "new against baseline" in text
    assert "the same <b> against baseline" in text  # escaped, or it would be a tag
    numbers = json.loads((output / "report.json").read_text(encoding="utf-8"))
    assert numbers["tests"] == 4
    same = numbers["benchmarks"]["mmvp"]["comparisons"]["the same <b>"]
    assert {metric["difference"] for metric in same["metrics"]} == {0}
    assert (same["gained"], same["lost"]) == ([], [])


def test_as_many_names_as_candidates(capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--baseline", "a", "--output", "o", "--candidate", "b", "--candidate", "c"]
    with pytest.raises(SystemExit):
        compare.parse_arguments([*given, "--candidate-name", "b"])
    assert "2 --candidate and 1 --candidate-name" in capsys.readouterr().err
    assert compare.parse_arguments(given).candidate_name == ["candidate 1", "candidate 2"]
    assert compare.parse_arguments(given[:6]).candidate_name == ["candidate"]


def test_provenance_and_a_warning_are_in_the_report(
    directories: tuple[Path, Path], tmp_path: Path
) -> None:
    body = json.loads((directories[1] / "pope.json").read_text(encoding="utf-8"))
    body["provenance"] = {
        "data": {"coco_pope_random.json": "ab" * 32},
        "model": {"name": "out/clip-in", "sha256": "0123456789ab" + "c" * 52},
        "commit": "f00d" * 10,
    }
    (directories[1] / "pope.json").write_text(json.dumps(body), encoding="utf-8")
    output = tmp_path / "report"
    arguments = ["--baseline", str(directories[0]), "--candidate", str(directories[1])]
    arguments += ["--output", str(output)]
    assert compare.main(arguments) == 1
    assert compare.main([*arguments, "--allow-different-data"]) == 0
    addresses, text = read_page(output), (output / "report.md").read_text(encoding="utf-8")
    for told in ("name out/clip-in, sha256 0123456789ab", "f00df00df00d", "abababababab"):
        assert told in addresses.text
        assert told.replace("_", "\\_") in text
    warning = "Compared on request although the results differ in their data: 6 common units"
    assert warning in addresses.text
    assert warning in text
    numbers = json.loads((output / "report.json").read_text(encoding="utf-8"))
    assert warning in numbers["warnings"][0]
    pope = numbers["benchmarks"]["pope"]
    assert pope["different_data"]["dropped"] == {"baseline": 0, "candidate": 0}
    assert pope["arms"]["candidate"]["provenance"][0]["commit"] == "f00d" * 10


def test_an_unknown_judge_is_told_everywhere(
    directories: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for directory, name in zip(directories, (UNKNOWN, "gpt-4"), strict=True):
        path = directory / "pope.json"
        body = json.loads(path.read_text(encoding="utf-8"))
        body["provenance"]["judge"] = {"name": name}
        path.write_text(json.dumps(body), encoding="utf-8")
    output = tmp_path / "report"
    arguments = ["--baseline", str(directories[0]), "--candidate", str(directories[1])]
    assert compare.main([*arguments, "--output", str(output)]) == 0
    told = "the judges of these verdicts are not known (baseline)"
    numbers = json.loads((output / "report.json").read_text(encoding="utf-8"))
    assert [told in warning for warning in numbers["warnings"]] == [True]
    # At the top and in the benchmark's section.
    assert read_page(output).text.count(told) == 2
    assert (output / "report.md").read_text(encoding="utf-8").count(told) == 2
    assert told in caplog.text


@dataclass(frozen=True)
class Made:
    """A benchmark of the test: one share and one score that is no share, over many categories."""

    name: str
    parser: str = "1"
    headlines: tuple[str, ...] = ("accuracy", "points")

    @property
    def title(self) -> str:
        return self.name.title()

    @property
    def kinds(self) -> Mapping[str, Kind]:
        return {"accuracy": Kind("accuracy"), "points": Kind("points", share=False)}

    def metrics(self, sums: Counts) -> dict[str, np.ndarray]:
        accuracy = ratio(sums["right"], sums["n"])
        return {"accuracy": accuracy, "points": 2000 * accuracy}


LONG_NAME = "a category whose name goes on and on for longer than a label, {}"


def test_twenty_benchmarks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator, arms = np.random.default_rng(0), ("base", "one", "two")
    for k in range(20):
        benchmark = Made(f"made{k}")
        monkeypatch.setitem(BENCHMARKS, benchmark.name, benchmark)  # type: ignore[arg-type]
        for arm in arms:
            right = generator.random(60) < 0.6
            units = [
                Unit(str(i), str(i), {"n": 1.0, "right": float(r)}, bool(r),
                     LONG_NAME.format(i % 30) if k == 0 else "", "q", "a", "r", "l", ())
                for i, r in enumerate(right)
            ]  # fmt: skip
            result = Result(benchmark.name, tuple(units), {}, "")
            write_result(benchmark, result, {}, tmp_path / arm / f"{benchmark.name}.json")
    output = tmp_path / "report"
    base, one, two = (str(tmp_path / arm) for arm in arms)
    arguments = ["--baseline", base, "--candidate", one, "--candidate", two]
    assert compare.main([*arguments, "--output", str(output)]) == 0
    addresses = read_page(output)
    assert len(addresses.anchors) == 2 * 20 + 1  # table of contents, overview, provenance
    numbers = json.loads((output / "report.json").read_text(encoding="utf-8"))
    assert (len(numbers["benchmarks"]), numbers["tests"]) == (20, 80)


def test_refusal_is_one_message(
    directories: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--baseline", str(directories[0]), "--candidate", str(tmp_path / "none")]
    assert compare.main([*arguments, "--output", str(tmp_path / "report")]) == 1
    assert "holds no result" in capsys.readouterr().err
    assert not (tmp_path / "report").exists()
