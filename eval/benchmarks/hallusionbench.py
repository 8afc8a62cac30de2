"""HallusionBench: questions whose picture or wording leads astray (Guan et al. 2023, CVPR 2024)

`HallusionBench.json` is the official file of tianyi-lab/HallusionBench: 1,129 yes/no questions, 178
of them without a picture. Three rules score it, and their numbers do not compare:
`hallusionbench`, the official one (utils.py: a judge says correct, incorrect or unclear);
`hallusionbench_vlmevalkit` (the words yes and no; mean of three accuracies) and
`hallusionbench_lmms_eval` (the official judge), both on the 951 questions with a picture.

As the official script does it, "unclear" is right where there is no figure to look at, and groups
are made of the rows that are answered. The official keys are compared exactly, so that old files
("ocr " with a blank) fall into groups of their own; here blanks at the ends do not count. LH, VI
and Mixed are not computed: they need a second question to the judge.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from eval.benchmark import Answers, Counts, Kind, Question, Unit, ratio
from eval.benchmarks.hallusionbench_files import (
    OFFICIAL_JUDGE,
    VLMEVALKIT_JUDGE,
    Files,
    read_verdict,
    vlmevalkit_word,
)
from eval.benchmarks.hallusionbench_rows import (
    CATEGORIES,
    UNCLEAR,
    Row,
    Sums,
    make_units,
    read_questions,
)
from eval.benchmarks.pope import careful_verdict

KINDS = {
    "average": Kind("mean of the three accuracies"),
    "pair_accuracy": Kind("question pairs all right (qAcc)"),
    "figure_accuracy": Kind("figures all right (fAcc)"),
    "easy_accuracy": Kind("easy questions (by pair)"),
    "hard_accuracy": Kind("hard questions (by pair)"),
    "accuracy": Kind("questions right (aAcc)"),
    "unclear": Kind("neither right nor wrong", "lower"),
    "unreadable": Kind("unreadable", "lower"),
    "careful_pair_accuracy": Kind("qAcc, careful reading"),
    "careful_figure_accuracy": Kind("fAcc, careful reading"),
    "careful_accuracy": Kind("aAcc, careful reading"),
    "yes_difference": Kind("share of yes, answers minus labels", "neither"),
    "false_positive_ratio": Kind("share of wrong answers that say yes", "neither"),
}


@dataclass(frozen=True)
class HallusionBench:
    """The official rule. Without a judge, yes xor no decides, and neither (or both) is unclear.

    `pictured`: the 951 questions with a picture alone, and all of them. `said`: what an answer
    says where there is no judge. Question ids are the official script's names:
    category_subcategory_set_figure_question.
    """

    name: str = "hallusionbench"
    title: str = "HallusionBench"
    pictured: bool = False
    said: Callable[[str], str | None] = careful_verdict
    parser: str = "hallusionbench-official-1"
    headlines: tuple[str, ...] = ("accuracy", "figure_accuracy", "pair_accuracy")
    folder: str = "hallusionbench"
    max_new_tokens: int = 128  # lmms-eval's; the official code leaves it to the model
    judge_max_new_tokens: int = 512  # one word is asked for, but judges explain themselves
    judge_required: bool = False

    @property
    def kinds(self) -> Mapping[str, Kind]:
        return KINDS

    def files(self, root: Path) -> list[Path]:
        path = root / "HallusionBench.json"
        if not path.is_file():
            raise FileNotFoundError(
                f"{path}: no such file; --data-root must hold HallusionBench's json."
            )
        return [path]

    def load(self, root: Path) -> list[Question]:
        """The question alone is the prompt, as in all three rules."""
        return [
            Question(row.id, row.question, row.image, row.label, row.kind)
            for row in self._rows(root)
        ]

    def part(self, question: Question) -> str:
        """The authors score files of 254 and 269 questions; the tools score the 951 at once."""
        return "" if self.pictured else question.id

    def read_answers(self, path: Path, questions: Sequence[Question]) -> Answers:
        """`model_prediction`, one `<model>_output`, or the forms of the tools."""
        return Files(questions, self.pictured).answers(path)

    def needs_verdict(self, question: Question, answer: str) -> bool:
        return True

    def judge_questions(
        self, root: Path, questions: Sequence[Question], answers: Mapping[str, str]
    ) -> list[Question]:
        rows = {row.id: row for row in self._rows(root)}
        prompts = {
            question.id: OFFICIAL_JUDGE.format(
                question=rows[question.id].question,
                reference=rows[question.id].reference,
                answer=answers[question.id],
            )
            for question in questions
        }
        return [Question(q.id, prompts[q.id], None, q.label, q.category) for q in questions]

    def read_verdicts(self, path: Path, questions: Sequence[Question]) -> Answers:
        """One column `*_human_check` or `*_gpt_check`, or what this project's judge replied."""
        return Files(questions, self.pictured).verdicts(path, OFFICIAL_JUDGE)

    def score(
        self, root: Path, questions: Sequence[Question], answers: Mapping[str, str]
    ) -> list[Unit]:
        """One unit per question; the words yes and no decide."""
        return self._by_words(root, questions, answers, answers)

    def score_verdicts(
        self,
        root: Path,
        questions: Sequence[Question],
        answers: Mapping[str, str],
        verdicts: Mapping[str, str],
    ) -> list[Unit]:
        """One unit per question; the judge decides."""
        judged = {q.id: read_verdict(verdicts[q.id]) for q in questions}
        return make_units(self._rows(root), answers, judged, judged=True)

    def metrics(self, sums: Counts) -> dict[str, np.ndarray]:
        """Over all questions, then by category (VD, VS) and by subcategory."""
        kinds = sorted({name.partition("/")[0] for name in sums})
        whole = Sums(sums, kinds)
        values = whole.accuracies()
        if not self.pictured:
            # Without the questions that have no picture these would not be the leaderboard's.
            values |= {f"{g}_accuracy": whole.share(f"{g}_right", g) for g in ("easy", "hard")}
        values |= {
            "unclear": whole.share("unclear", "questions"),
            **whole.accuracies("careful_"),
            "yes_difference": whole.share("said_yes", "questions")
            - whole.share("label_yes", "questions"),
            "false_positive_ratio": ratio(
                whole.count("wrong_yes"), whole.count("questions") - whole.count("right")
            ),
        }
        if any(name.endswith("/unreadable") for name in sums):
            values["unreadable"] = whole.share("unreadable", "questions")
        for part in (*CATEGORIES, *kinds):
            members = [kind for kind in kinds if kind == part or kind.startswith(f"{part}_")]
            if members:
                accuracies = Sums(sums, members).accuracies()
                values |= {f"{part}/{name}": value for name, value in accuracies.items()}
        return values

    def _by_words(
        self,
        root: Path,
        questions: Sequence[Question],
        answers: Mapping[str, str],
        texts: Mapping[str, str],
        judged: bool = False,
    ) -> list[Unit]:
        """Units by what `texts`, the answers or what a judge made of them, say."""
        verdicts: dict[str, int] = {}
        for question in questions:
            said = self.said(texts[question.id])
            verdicts[question.id] = UNCLEAR if said is None else int(said == question.label)
        return make_units(self._rows(root), answers, verdicts, judged)

    def _rows(self, root: Path) -> list[Row]:
        rows = read_questions(self.files(root)[0])
        return [row for row in rows if row.image is not None or not self.pictured]


@dataclass(frozen=True)
class VlmEvalKitHallusionBench(HallusionBench):
    """VLMEvalKit's rule. A judge is asked about the answers that its rule calls Unknown."""

    name: str = "hallusionbench_vlmevalkit"
    title: str = "HallusionBench, VLMEvalKit"
    pictured: bool = True
    said: Callable[[str], str | None] = vlmevalkit_word
    parser: str = "hallusionbench-vlmevalkit-1"
    headlines: tuple[str, ...] = ("average", "accuracy", "figure_accuracy", "pair_accuracy")

    def needs_verdict(self, question: Question, answer: str) -> bool:
        return self.said(answer) is None

    def judge_questions(
        self, root: Path, questions: Sequence[Question], answers: Mapping[str, str]
    ) -> list[Question]:
        asking = VLMEVALKIT_JUDGE.format
        return [
            replace(q, prompt=asking(question=q.prompt, answer=answers[q.id]), image=None)
            for q in questions
            if self.needs_verdict(q, answers[q.id])
        ]

    def read_verdicts(self, path: Path, questions: Sequence[Question]) -> Answers:
        """The column `extracted` of VLMEvalKit's *_auxmatch file, or this project's replies."""
        return Files(questions, self.pictured).extractions(path)

    def score_verdicts(
        self,
        root: Path,
        questions: Sequence[Question],
        answers: Mapping[str, str],
        verdicts: Mapping[str, str],
    ) -> list[Unit]:
        """One unit per question; the judge decides where the words do not."""
        unknown = {q.id for q in questions if self.said(answers[q.id]) is None}
        texts = {q.id: (verdicts if q.id in unknown else answers)[q.id] for q in questions}
        return self._by_words(root, questions, answers, texts, judged=True)

    def metrics(self, sums: Counts) -> dict[str, np.ndarray]:
        """As the other rules, and the mean that the OpenVLM leaderboard quotes."""
        values = super().metrics(sums)
        three = [values[name] for name in ("accuracy", "figure_accuracy", "pair_accuracy")]
        return {"average": np.mean(three, axis=0)} | values
