"""From a model, a tower or a file of answers to results."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from huggingface_hub.utils import HFValidationError, validate_repo_id

from eval.answers import join_answers, read_answers
from eval.benchmark import Described, LanguageBenchmark, Metrics, Question, TowerBenchmark
from eval.generate import generate_answers
from eval.pictures import check_images
from eval.provenance import data_hashes, file_hash, git_commit, model_hash, pictures_hash, versions
from eval.result import Result

logger = logging.getLogger(__name__)

# What answers depend on; a run goes on with answers only where these are the same.
MADE_BY = ("model", "data", "pictures", "decoding")
Scored = Iterator[tuple[Metrics, Result]]


def score_answers(path: Path, benchmarks: Sequence[tuple[LanguageBenchmark, Path]]) -> Scored:
    """Score answers that were made before."""
    for benchmark, root in benchmarks:
        provenance = _provenance(benchmark, root) | {
            "answers": {"file": path.name, "sha256": file_hash(path) if path.is_file() else None}
        }
        yield benchmark, _score(benchmark, root, benchmark.load(root), path, provenance)


def score_models(
    model: str,
    benchmarks: Sequence[tuple[LanguageBenchmark, Path]],
    output: Path,
    max_new_tokens: int | None,
    batch_size: int,
) -> Scored:
    """Ask a model, then score; everything that can be refused is refused before it is loaded."""
    _require_name(model)
    asked: list[tuple[LanguageBenchmark, Path, list[Question]]] = []
    for benchmark, root in benchmarks:
        questions = benchmark.load(root)
        check_images(root, [question.image for question in questions if question.image])
        asked.append((benchmark, root, questions))
    # Loads torch models; scoring a file of answers does without.
    from mllm.chat import Chat

    chat, identity = Chat(model), _identity(model)
    for benchmark, root, questions in asked:
        limit = max_new_tokens or benchmark.max_new_tokens
        provenance = _provenance(benchmark, root) | {
            "model": identity,
            "decoding": {"strategy": "greedy", "max_new_tokens": limit},
            "pictures": pictures_hash(root, [q.image for q in questions if q.image]),
            "prompt": questions[0].prompt,
        }
        path = output / f"{benchmark.name}.answers.jsonl"
        generate_answers(
            chat,
            root,
            questions,
            path,
            made_by={key: provenance[key] for key in MADE_BY},
            max_new_tokens=limit,
            batch_size=batch_size,
            title=benchmark.title,
        )
        yield benchmark, _score(benchmark, root, questions, path, provenance)


def score_towers(name: str, benchmarks: Sequence[tuple[TowerBenchmark, Path]]) -> Scored:
    """Measure a tower."""
    import torch

    from vision_tower.towers import load_tower

    for benchmark, root in benchmarks:
        benchmark.files(root)
    tower = load_tower(name).eval().to("cuda" if torch.cuda.is_available() else "cpu")
    identity = _identity(name)
    for benchmark, root in benchmarks:
        units = benchmark.measure(tower, root)
        pictures = {image.partition("#")[0] for unit in units for image in unit.images}
        provenance = _provenance(benchmark, root) | {
            "tower": identity,
            "pictures": pictures_hash(root, pictures),
        }
        yield benchmark, Result(benchmark.name, tuple(units), provenance, str(root))


def _score(
    benchmark: LanguageBenchmark,
    root: Path,
    questions: Sequence[Question],
    path: Path,
    provenance: dict[str, object],
) -> Result:
    answered, answers = join_answers(benchmark, questions, read_answers(path, benchmark), path)
    if len(answered) < len(questions):
        logger.info("%s: scoring the %d of %d questions that %s answers",
                    benchmark.title, len(answered), len(questions), path.name)  # fmt: skip
    units = benchmark.score(root, answered, answers)
    return Result(benchmark.name, tuple(units), provenance, str(root))


def _provenance(benchmark: Described, root: Path) -> dict[str, object]:
    return {
        "data": data_hashes(root, benchmark.files(root)),
        "parser": benchmark.parser,
        "versions": versions(),
        "commit": git_commit(),
    }


def _require_name(model: str) -> None:
    if Path(model).is_dir():
        return
    try:
        validate_repo_id(model)
    except HFValidationError as error:
        raise FileNotFoundError(
            f"{model}: no such directory, and no hub id either; check --model."
        ) from error


def _identity(name: str) -> dict[str, str | None]:
    """Name as given, and the hash of its files where it is a directory here."""
    directory = Path(name)
    return {"name": name, "sha256": model_hash(directory) if directory.is_dir() else None}
