"""Asking a model every question of a benchmark, once: batched, streamed to disk, resumable."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from PIL import Image
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from eval.benchmark import Question
from eval.pictures import open_picture
from vision_tower.journal import resume

logger = logging.getLogger(__name__)


class Answers(Protocol):
    """What is needed of a model; mllm.chat.Chat has it."""

    def answer_batch(
        self, pairs: Sequence[tuple[Image.Image | None, str]], *, max_new_tokens: int
    ) -> list[str]: ...


def answered_ids(path: Path, made_by: dict[str, object], questions: Sequence[Question]) -> set[str]:
    """Ids that the answers file already has; prepares the file for appending (`resume`).

    Raises:
        ValueError: the answers were made by another model, with other data or decoding, or to
            other prompts.
    """
    rows = resume(path, made_by)
    prompts = {question.id: question.prompt for question in questions}
    for row in rows:
        if prompts.get(row["question_id"], row["prompt"]) != row["prompt"]:
            raise ValueError(
                f"{path}: question {row['question_id']} was asked in other words; remove the file "
                "to ask again, or choose another --output."
            )
    return {row["question_id"] for row in rows}


def length_buckets(questions: Sequence[Question], batch_size: int) -> list[list[Question]]:
    """Batches of questions of about equal length (less padding); equal lengths keep their order,
    so that questions about one picture stay together."""
    ordered = sorted(questions, key=lambda question: len(question.prompt))
    return [ordered[i : i + batch_size] for i in range(0, len(ordered), batch_size)]


def generate_answers(
    model: Answers,
    root: Path,
    questions: Sequence[Question],
    path: Path,
    *,
    made_by: dict[str, object],
    max_new_tokens: int,
    batch_size: int,
    title: str,
) -> None:
    """Append to `path` a row {question_id, prompt, text} for every question it does not have yet.

    Raises:
        RuntimeError: the model failed; names the batch's ids. Nothing is written for the batch.
        ValueError: the answers that are there were made otherwise (`answered_ids`).
    """
    done = answered_ids(path, made_by, questions)
    pending = [question for question in questions if question.id not in done]
    if done:
        logger.info("%s: %d answers are there, %d to go", path, len(done), len(pending))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with (
        Progress(*columns, TimeRemainingColumn()) as progress,
        path.open("a", encoding="utf-8") as out,
    ):
        task = progress.add_task(title, total=len(questions), completed=len(done))
        for batch in length_buckets(pending, batch_size):
            for question, answer in zip(
                batch, _ask(model, root, batch, max_new_tokens), strict=True
            ):
                row = {"question_id": question.id, "prompt": question.prompt, "text": answer}
                out.write(json.dumps(row, ensure_ascii=False) + "\n")
            out.flush()
            progress.advance(task, len(batch))


def _ask(model: Answers, root: Path, batch: Sequence[Question], max_new_tokens: int) -> list[str]:
    opened: dict[str, Image.Image] = {}
    for question in batch:
        if question.image is not None and question.image not in opened:
            opened[question.image] = open_picture(root, question.image)
    pairs = [
        (None if question.image is None else opened[question.image], question.prompt)
        for question in batch
    ]
    try:
        answers = model.answer_batch(pairs, max_new_tokens=max_new_tokens)
    except Exception as error:
        ids = ", ".join(question.id for question in batch[:8])
        raise RuntimeError(
            f"the model failed on the batch of questions {ids}{'…' if len(batch) > 8 else ''} "
            f"({type(error).__name__}: {error}); answers so far are kept, run again to go on."
        ) from error
    if len(answers) != len(batch):
        raise RuntimeError(f"{len(answers)} answers to {len(batch)} questions ({batch[0].id}, …).")
    return answers
