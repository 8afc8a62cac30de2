"""Verdicts on answers: from a file, or from a language model that is asked as benchmarks ask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.answers import answers_by_id, some
from eval.benchmark import JudgedBenchmark, Question
from eval.generate import generate_answers
from eval.parts import processes
from eval.provenance import model_identity


@dataclass(frozen=True)
class Verdicts:
    """The judge's replies by question id, who the judge was, and the file of the replies."""

    replies: Mapping[str, str]
    judge: dict[str, str | None]
    file: Path


def verdicts_of_file(
    benchmark: JudgedBenchmark,
    path: Path,
    to_judge: Sequence[Question],
    known: Sequence[Question],
) -> Verdicts | None:
    """Verdicts that were given before; None where the file holds answers alone.

    Args:
        to_judge: what the judge had to be asked; each needs a verdict.
        known: all questions of the benchmark; verdicts on others are an error.

    Raises:
        ValueError: verdicts doubled, missing, or on questions that there are not.
    """
    pairs = benchmark.read_verdicts(path, known)
    if not pairs:
        return None
    replies = dict(pairs)
    if len(replies) < len(pairs):
        ids = [identity for identity, _ in pairs]
        doubled = sorted({i for i in ids if ids.count(i) > 1})
        raise ValueError(f"{path}: judged more than once: {some(doubled)}; keep one of each.")
    unknown = sorted(replies.keys() - {question.id for question in known})
    if unknown:
        raise ValueError(
            f"{path}: {len(unknown)} verdicts on questions that {benchmark.name} does not have: "
            f"{some(unknown)}; take the verdicts that belong to the answers."
        )
    missing = [question.id for question in to_judge if question.id not in replies]
    if missing:
        raise ValueError(
            f"{path}: {len(missing)} of {len(to_judge)} answers have no verdict: {some(missing)}; "
            "judge them too."
        )
    return Verdicts(replies, {"name": "verdicts from a file"}, path)


class Judge:
    """A local language model that replies to the judge's questions of a benchmark, greedily."""

    def __init__(self, name: str) -> None:
        """Load it.

        Args:
            name: directory or hub id of a chat model of transformers that takes text.

        Raises:
            ValueError: it is no such model.
        """
        # Verdicts of a file do without torch models.
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from mllm.answerer import TextAnswerer

        self.identity = model_identity(name)
        # One process may take all GPUs; of several, each has its own.
        place = "auto" if processes().num_processes == 1 else str(processes().device)
        try:
            model = AutoModelForCausalLM.from_pretrained(name, device_map=place, dtype="auto")
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0]  # a list of all classes may follow
            raise ValueError(
                f"{name} cannot be opened as a language model ({reason}); check --judge."
            ) from error
        self._answerer = TextAnswerer(model, AutoTokenizer.from_pretrained(name))

    def verdicts(
        self,
        benchmark: JudgedBenchmark,
        root: Path,
        to_judge: Sequence[Question],
        path: Path,
        batch_size: int,
    ) -> Verdicts:
        """Ask, or go on asking: replies stream into `path`, as answers do."""
        generate_answers(
            self._answerer,
            root,
            to_judge,
            path,
            made_by={"judge": self.identity},
            max_new_tokens=benchmark.judge_max_new_tokens,
            batch_size=batch_size,
            title=f"{benchmark.title}, judge",
        )
        return Verdicts(dict(answers_by_id(path, "question_id")), self.identity, path)
