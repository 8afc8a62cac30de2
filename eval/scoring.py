"""From a model, a tower or a file of answers to results."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.answers import answers_by_id, join_answers
from eval.asking import Decoding, Subject
from eval.benchmark import (
    Described,
    JudgedBenchmark,
    LanguageBenchmark,
    Metrics,
    Question,
    TowerBenchmark,
    Unit,
)
from eval.generate import generate_answers
from eval.judging import RULE, Judging, Verdicts, needs_judge, verdicts_of_file
from eval.pictures import check_images, picture_files
from eval.provenance import (
    data_hashes,
    git_commit,
    model_identity,
    path_hash,
    pictures_hash,
    prompts_hash,
    sameness,
    versions,
)
from eval.result import Result

logger = logging.getLogger(__name__)

# What answers depend on beside the model; a run goes on with answers only where these are the same.
MADE_BY = ("data", "pictures", "decoding")
Scored = Iterator[tuple[Metrics, Result]]


def score_answers(
    path: Path,
    benchmarks: Sequence[tuple[LanguageBenchmark, Path]],
    judging: Judging,
    output: Path | None,
) -> Scored:
    """Score answers that were made before."""
    for benchmark, root in benchmarks:
        provenance = _provenance(benchmark, root)
        questions = benchmark.load(root)
        pairs = benchmark.read_answers(path, questions)
        answered, answers = join_answers(benchmark, questions, pairs, path)
        provenance["answers"] = {"file": path.name, "sha256": path_hash(path)}
        asked = _Asked(benchmark, root, questions, answered, answers, path)
        yield benchmark, asked.result(provenance, judging, output)


def score_models(
    subject: Subject,
    benchmarks: Sequence[tuple[LanguageBenchmark, Path]],
    output: Path,
    decoding: Decoding,
    judging: Judging,
) -> Scored:
    """Ask a model, then score; everything that can be refused is refused before it is loaded."""
    subject.require_name()
    asked = [
        (benchmark, root, _askable(benchmark, root, judging)) for benchmark, root in benchmarks
    ]
    model = subject.open()
    identity = subject.identity() | {"dtype": model.dtype}
    for benchmark, root, questions in asked:
        asked_for = decoding.max_new_tokens
        limit = benchmark.max_new_tokens if asked_for is None else asked_for
        provenance = _provenance(benchmark, root) | {
            "model": identity,
            "decoding": {"strategy": "greedy", "max_new_tokens": limit},
            "pictures": pictures_hash(root, picture_files(q.image for q in questions if q.image)),
            "prompt": questions[0].prompt,
            "prompts": prompts_hash(questions),
        }
        path = output / f"{benchmark.name}.answers.jsonl"
        generate_answers(
            model,
            root,
            questions,
            path,
            made_by={key: provenance[key] for key in MADE_BY} | {"model": sameness(identity)},
            max_new_tokens=limit,
            batch_size=decoding.batch_size,
            title=benchmark.title,
        )
        answers = dict(answers_by_id(path, "question_id"))
        made = _Asked(benchmark, root, questions, questions, answers, path)
        yield benchmark, made.result(provenance, judging, output)


def _askable(benchmark: LanguageBenchmark, root: Path, judging: Judging) -> list[Question]:
    """The questions, once everything is there that asking and scoring them needs."""
    _require_judge(benchmark, judging)
    if isinstance(benchmark, JudgedBenchmark):
        judging.require()
        if judging.judge is not None:
            benchmark.judge_questions(root, [], {})  # reads the judge's official prompt
    questions = benchmark.load(root)
    check_images(root, [question.image for question in questions if question.image])
    return questions


def score_towers(name: str, benchmarks: Sequence[tuple[TowerBenchmark, Path]]) -> Scored:
    """Measure a tower."""
    import torch

    from vision_tower.towers import load_tower

    for benchmark, root in benchmarks:
        benchmark.files(root)
    tower = load_tower(name).eval().to("cuda" if torch.cuda.is_available() else "cpu")
    identity = model_identity(name)
    for benchmark, root in benchmarks:
        units = benchmark.measure(tower, root)
        pictures = picture_files(image for unit in units for image in unit.images)
        provenance = _provenance(benchmark, root) | {
            "tower": identity,
            "pictures": pictures_hash(root, pictures),
        }
        yield benchmark, Result(benchmark.name, tuple(units), provenance, str(root))


@dataclass(frozen=True)
class _Asked:
    """A benchmark's questions, those that were answered, and where the answers lie."""

    benchmark: LanguageBenchmark
    root: Path
    questions: Sequence[Question]
    answered: Sequence[Question]
    answers: dict[str, str]
    path: Path

    def result(
        self, provenance: dict[str, object], judging: Judging, output: Path | None
    ) -> Result:
        provenance["answered"] = f"{len(self.answered)} of {len(self.questions)} questions"
        if len(self.answered) < len(self.questions):
            logger.warning(
                "%s: %s answers %s; scores are over these alone",
                self.benchmark.title, self.path.name, provenance["answered"],
            )  # fmt: skip
        units = self._units(provenance, judging, output)
        return Result(self.benchmark.name, tuple(units), provenance, str(self.root))

    def _units(
        self, provenance: dict[str, object], judging: Judging, output: Path | None
    ) -> list[Unit]:
        given = (self.root, self.answered, self.answers)
        if not isinstance(self.benchmark, JudgedBenchmark):
            return self.benchmark.score(*given)
        verdicts = self._verdicts(self.benchmark, judging, output)
        provenance["judge"] = {"name": RULE} if verdicts is None else verdicts.judge
        if verdicts is None:
            return self.benchmark.score(*given)
        if judging.judge is not None:
            # Whatever was answered; so many words that no rule reads them without a judge.
            answers = dict.fromkeys(self.answers, "This is an answer.")
            asked = self.benchmark.judge_questions(self.root, self.answered, answers)
            provenance["judge_prompts"] = prompts_hash(asked)
        provenance["verdicts"] = {"file": verdicts.file.name, "sha256": path_hash(verdicts.file)}
        return self.benchmark.score_verdicts(*given, verdicts.replies)

    def _verdicts(
        self, benchmark: JudgedBenchmark, judging: Judging, output: Path | None
    ) -> Verdicts | None:
        # Before a file of answers could pass for one of verdicts: both hold texts.
        _require_judge(benchmark, judging)

        def to_judge() -> list[Question]:
            return benchmark.judge_questions(self.root, self.answered, self.answers)

        if judging.judge is not None:
            assert output is not None
            path = output / f"{benchmark.name}.verdicts.jsonl"
            return judging.ask(benchmark, self.root, to_judge(), path)
        # Released files may hold answers and verdicts side by side.
        path = judging.file or self.path
        needed = [q for q in self.answered if benchmark.needs_verdict(q, self.answers[q.id])]
        verdicts = verdicts_of_file(benchmark, path, needed, to_judge, self.questions)
        if verdicts is None and judging.file is not None:
            raise ValueError(f"{path}: holds no verdicts on {benchmark.title}; check --verdicts.")
        return verdicts


def _require_judge(benchmark: LanguageBenchmark, judging: Judging) -> None:
    if not isinstance(benchmark, JudgedBenchmark) or not benchmark.judge_required:
        return
    if judging.file is None and judging.judge is None:
        raise needs_judge(benchmark.title)


def _provenance(benchmark: Described, root: Path) -> dict[str, object]:
    return {
        "data": data_hashes(root, benchmark.files(root)),
        "parser": benchmark.parser,
        "versions": versions(),
        "commit": git_commit(),
    }
