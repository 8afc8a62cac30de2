"""The report: wording by hand, files that stand alone, answers that cannot break the page."""

from __future__ import annotations

import html.parser
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eval import compare
from eval.benchmarks.mme import Mme
from eval.benchmarks.mmvp import Mmvp
from eval.benchmarks.pope import Pope
from eval.bootstrap import SignTest
from eval.comparison import Comparison, Difference
from eval.report import wording
from eval.report.plots import gains_figure
from eval.result import Result, write_result

DIFFERENCE = Difference(
    metric="f1", title="F1", better="higher", share=True, headline=True,
    baseline=0.5, candidate=0.525, difference=0.025, low=0.004, high=0.046,
    per_seed=(0.03, 0.02),
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
    assert wording.probability(SignTest(0, 20, 1.9e-6)) == "p < 0.0001"
    assert wording.probability(SignTest(1, 9, 0.0215)) == "p = 0.0215"


def test_a_gain_that_the_other_headline_does_not_share_is_told_with_it() -> None:
    """POPE at chance accuracy: F1 rises with the share of "yes" alone."""
    still = replace(DIFFERENCE, title="accuracy", difference=0.004, low=-0.018, high=0.025)
    told = wording.reservation([DIFFERENCE, still])
    assert "accuracy (+0.4, \N{MINUS SIGN}1.8 … +2.5)" in told
    assert wording.reservation([DIFFERENCE, DIFFERENCE]) == ""
    assert wording.reservation([still, DIFFERENCE]) == ""
    assert wording.reservation([DIFFERENCE]) == ""


NASTY = "Yes <script>alert(1)</script> | `x` ](http://evil) \u202e"


def test_headlines_that_are_no_shares_have_panels_and_scales_of_their_own() -> None:
    points = replace(DIFFERENCE, metric="perception", title="points", share=False,
                     difference=21.0, low=3.0, high=40.0, per_seed=(20.0, 22.0))  # fmt: skip
    blank = Comparison(
        benchmark=Pope(headlines=("f1",)), of_tower=False, units=1, clusters=1, seeds=2,
        differences=(DIFFERENCE,), signs=None, gained=(), lost=(), categories=(),
        data_root=Path(),
    )  # fmt: skip
    mme = replace(blank, benchmark=Mme(headlines=("perception",)), differences=(points,))
    axes = gains_figure([blank, mme]).axes
    assert [axis.get_title(loc="left") for axis in axes] == ["Multimodal language model", "MME"]
    # Lines are: zero, the interval, the point, the seeds.
    drawn = [[np.asarray(line.get_xdata()).tolist() for line in axis.lines[1:]] for axis in axes]
    assert drawn[0] == [pytest.approx([0.4, 4.6]), pytest.approx([2.5]), pytest.approx([3, 2])]
    assert drawn[1] == [[3.0, 40.0], [21.0], [20.0, 22.0]]


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
            write_result(benchmark, result, tmp_path / name / f"{benchmark.name}.json")
    return tmp_path / "before", tmp_path / "after"


class Addresses(html.parser.HTMLParser):
    """Collects everything that a page would fetch, and its script tags."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.scripts = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        self.sources += [v or "" for k, v in attrs if k in ("src", "href", "srcset")]


def test_report_files(directories: tuple[Path, Path], tmp_path: Path) -> None:
    before, after = directories
    output = tmp_path / "report"
    arguments = ["--baseline", str(before), "--candidate", str(after), "--output", str(output)]
    assert compare.main([*arguments, "--title", "A & B"]) == 0

    page = (output / "report.html").read_text(encoding="utf-8")
    addresses = Addresses()
    addresses.feed(page)
    assert addresses.scripts == 0
    # Forest plot, POPE's categories, one POPE picture, two MMVP pictures; all inside the page.
    assert len(addresses.sources) == 5
    assert all(source.startswith("data:image/png;base64,") for source in addresses.sources)
    assert "url(" not in page
    assert "<title>A &amp; B</title>" in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page

    text = (output / "report.md").read_text(encoding="utf-8")
    assert "<script>" not in text
    for name in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text):
        assert (output / name).is_file()
    assert "| POPE mean F1 |" in text

    numbers = json.loads((output / "report.json").read_text(encoding="utf-8"))
    assert numbers["benchmarks"]["pope"]["gained"] == [[0, "2"]]
    assert numbers["benchmarks"]["mmvp"]["lost"] == [[0, "3-4"]]
    assert numbers["benchmarks"]["mmvp"]["mcnemar"] == {"better": 0, "worse": 1, "p": 1.0}
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


def test_refusal_is_one_message(
    directories: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--baseline", str(directories[0]), "--candidate", str(tmp_path / "none")]
    assert compare.main([*arguments, "--output", str(tmp_path / "report")]) == 1
    assert "holds no result" in capsys.readouterr().err
    assert not (tmp_path / "report").exists()
