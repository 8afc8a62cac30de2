"""Verdicts on answers: from a file, or from a language model that is asked as benchmarks ask."""

from __future__ import annotations

import ast
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from eval.answers import answers_by_id, some
from eval.asking import Judge
from eval.benchmark import JudgedBenchmark, Question
from eval.generate import Answers, generate_answers
from eval.provenance import sameness
from eval.rows import read_json_rows
from vision_tower.journal import origin_of

# The judge of verdicts that came without a word of who gave them.
UNKNOWN = "unknown, verdicts from a file"
# The judge of answers that the benchmark's own rule read.
RULE = "none, a rule"


@dataclass(frozen=True)
class Verdicts:
    """The judge's replies by question id, who the judge was, and the file of the replies."""

    replies: Mapping[str, str]
    judge: dict[str, str | None]
    file: Path


def verdicts_of_file(
    benchmark: JudgedBenchmark,
    path: Path,
    needed: Sequence[Question],
    to_judge: Callable[[], Sequence[Question]],
    known: Sequence[Question],
) -> Verdicts | None:
    """Verdicts that were given before; None where the file holds answers alone.

    Args:
        needed: the questions whose answers need a verdict.
        to_judge: what the judge is asked about them, for files that say what it was asked.
        known: all questions of the benchmark; verdicts on others are an error.

    Raises:
        ValueError: verdicts doubled, missing, or on questions that there are not.
    """
    pairs = benchmark.read_verdicts(path, known)
    if not pairs:
        return None
    _require_same_answers(path, to_judge)
    replies = dict(pairs)
    doubled = [i for i, times in Counter(i for i, _ in pairs).items() if times > 1]
    if doubled:
        raise ValueError(f"{path}: judged more than once: {some(doubled)}; keep one of each.")
    unknown = sorted(replies.keys() - {question.id for question in known})
    if unknown:
        raise ValueError(
            f"{path}: {len(unknown)} verdicts on questions that {benchmark.name} does not have: "
            f"{some(unknown)}; take the verdicts that belong to the answers."
        )
    missing = [question.id for question in needed if question.id not in replies]
    if missing:
        raise ValueError(
            f"{path}: {len(missing)} of {len(needed)} answers have no verdict: {some(missing)}; "
            "judge them too."
        )
    return Verdicts(replies, _judge_of(path), path)


def _judge_of(path: Path) -> dict[str, str | None]:
    """Who gave a file's verdicts: beside those of `Judging.ask` it is written."""
    origin = origin_of(path)
    made_by = json.loads(origin.read_text(encoding="utf-8")) if origin.is_file() else {}
    return {"name": None} | made_by["judge"] if "judge" in made_by else {"name": UNKNOWN}


def _require_same_answers(path: Path, to_judge: Callable[[], Sequence[Question]]) -> None:
    """What the judge was asked holds the answer; our own files of verdicts keep it."""
    rows = read_json_rows(path) if path.suffix == ".jsonl" else []
    told = any(row.get("prompt") is not None for row in rows)
    prompts = {question.id: question.prompt for question in to_judge()} if told else {}
    for row in rows:
        asked = row.get("prompt")
        if asked is not None and asked != prompts.get(str(row.get("question_id")), asked):
            raise ValueError(
                f"{path}: judges another answer to {row.get('question_id')} than the one given; "
                "take the verdicts that belong to the answers."
            )


def needs_judge(title: str) -> ValueError:
    """The error of a benchmark that no rule scores."""
    return ValueError(
        f"{title} has no score without a judge: give its verdicts (--verdicts FILE) "
        "or a language model that judges (--judge NAME)."
    )


def prompt_of_script(path: Path, name: str, places: Sequence[str]) -> str:
    """The judge's prompt out of a benchmark's official script, which is read and not run.

    Args:
        path: the script.
        name: the variable that a string is assigned to at the script's top level.
        places: what the prompt must hold for what is to be judged, each as often as it stands here.

    Raises:
        FileNotFoundError: no such script.
        ValueError: no Python, no such string in it, or one with other places.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such file, and the judge's prompt is in it; fetch the benchmark "
            "(scripts/fetch_benchmarks.py), or give verdicts (--verdicts FILE)."
        )
    try:
        script = ast.parse(path.read_text(encoding="utf-8-sig"))
    except (SyntaxError, UnicodeDecodeError, ValueError) as error:
        raise ValueError(f"{path}: no Python script ({error}); take the official one.") from error
    strings = [
        node.value.value
        for node in script.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name) and target.id == name
    ]
    prompt = strings[0] if len(strings) == 1 else None
    if not isinstance(prompt, str) or any(prompt.count(p) != places.count(p) for p in places):
        raise ValueError(
            f"{path}: assigns no one string {name} with {' '.join(places)} in it; "
            "take the official script."
        )
    return prompt


@dataclass(frozen=True)
class Judging:
    """Where verdicts come from: a file, a judge, or neither."""

    file: Path | None
    judge: Judge | None
    batch_size: int

    def require(self) -> None:
        """Raise FileNotFoundError where the file, or the judge, cannot be there."""
        if self.file is not None and not self.file.is_file():
            raise FileNotFoundError(f"{self.file}: no such file; check --verdicts.")
        if self.judge is not None:
            self.judge.require_name()

    @cached_property
    def _model(self) -> Answers:
        """Loaded when it is first asked, once for all benchmarks."""
        assert self.judge is not None
        return self.judge.open()

    def ask(
        self, benchmark: JudgedBenchmark, root: Path, to_judge: Sequence[Question], path: Path
    ) -> Verdicts:
        """Ask the judge, or go on asking: replies stream into `path`, as answers do."""
        assert self.judge is not None
        identity = self.judge.identity()
        generate_answers(
            self._model,
            root,
            to_judge,
            path,
            made_by={"judge": sameness(identity)},
            max_new_tokens=benchmark.judge_max_new_tokens,
            batch_size=self.batch_size,
            title=f"{benchmark.title}, judge",
        )
        return Verdicts(dict(answers_by_id(path, "question_id")), identity, path)
