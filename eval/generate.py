"""Asking a model every question of a benchmark, once: batched, streamed to disk, resumable."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from PIL import Image
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from eval.benchmark import Question
from eval.parts import join_parts, line, part, processes, sort_rows
from eval.pictures import open_picture
from vision_tower.journal import resume

logger = logging.getLogger(__name__)

# Picture and prompt. A benchmark may ask the same of a picture in several of its splits; an answer
# is decided by these two, so it is asked once.
Asked = tuple[str | None, str]


class Answers(Protocol):
    """What is needed of a model; mllm.answerer.Answerer has it."""

    def answer_batch(
        self, pairs: Sequence[tuple[Image.Image | None, str]], *, max_new_tokens: int
    ) -> list[str]: ...


def answered(
    path: Path, made_by: dict[str, object], questions: Sequence[Question]
) -> dict[str, str]:
    """Id -> answer of what the file already has; prepares the file for appending (`resume`).

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
    return {row["question_id"]: row["text"] for row in rows}


def plan(asked: Iterable[Asked], batch_size: int) -> list[list[Asked]]:
    """Batches of whole pictures, each picture's questions together, so that what a model computes
    of a picture is needed in one place. A picture with more questions than a batch has batches of
    its own, one after the other.

    Within that, questions of about equal length are together (less padding). The plan does not
    depend on what is answered already, nor on the number of processes: a batch is the same batch in
    every run, down to the rounding of its sums.
    """
    pictures: dict[Asked, list[Asked]] = {}
    for image, prompt in dict.fromkeys(asked):
        key = (None, prompt) if image is None else (image, "")
        pictures.setdefault(key, []).append((image, prompt))
    ordered = sorted(
        pictures.values(), key=lambda of: (of[0][0] is None, max(len(prompt) for _, prompt in of))
    )
    batches = [
        of[i : i + batch_size]
        for of in ordered
        if len(of) > batch_size
        for i in range(0, len(of), batch_size)
    ]
    filled: list[list[Asked]] = []
    for of in ordered:
        if filled and len(filled[-1]) + len(of) <= batch_size:
            filled[-1] += of
        elif len(of) <= batch_size:
            filled.append(list(of))
    return batches + filled


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

    Of several processes (eval.parts) each asks a share, and the file is whole, in the order of the
    questions, when this returns.

    Raises:
        RuntimeError: the model failed; names the batch's ids. Nothing is written for the batch.
        ValueError: the answers that are there were made otherwise (`answered`).
    """
    run = processes()
    if run.is_main_process:
        join_parts(path, made_by)
    run.wait_for_everyone()
    done = answered(path, made_by, questions)
    run.wait_for_everyone()  # all have read what the first one will now append to
    if done and run.is_main_process:
        logger.info(
            "%s: %d answers are there, %d to go", path, len(done), len(questions) - len(done)
        )
    batches = plan(((q.image, q.prompt) for q in questions), batch_size)
    share = batches[run.process_index :: run.num_processes]
    own = part(path, run.process_index)
    resume(own, made_by)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with (
        Progress(*columns, TimeRemainingColumn(), disable=not run.is_main_process) as progress,
        own.open("a", encoding="utf-8") as out,
    ):
        task = progress.add_task(title, total=len(share))
        for rows in _answer(model, root, questions, share, done, max_new_tokens):
            out.write("".join(map(line, rows)))
            out.flush()
            progress.advance(task)
    run.wait_for_everyone()
    if run.is_main_process:
        join_parts(path, made_by)
        sort_rows(path, made_by, questions)
    run.wait_for_everyone()


def _answer(
    model: Answers,
    root: Path,
    questions: Sequence[Question],
    batches: Sequence[Sequence[Asked]],
    done: dict[str, str],
    max_new_tokens: int,
) -> Iterator[list[dict[str, str]]]:
    """Rows of each batch; none for what is done."""
    asking: dict[Asked, list[Question]] = {}
    for question in questions:
        asking.setdefault((question.image, question.prompt), []).append(question)
    texts = {(q.image, q.prompt): done[q.id] for q in questions if q.id in done}
    opened: dict[str, Image.Image] = {}
    for batch in batches:
        new = [asked for asked in batch if asked not in texts]
        # A picture that goes over several batches stays open, the same object to the model.
        names = dict.fromkeys(image for image, _ in new if image is not None)
        opened = {name: opened.get(name) or open_picture(root, name) for name in names}
        if new:
            pairs = [(None if image is None else opened[image], prompt) for image, prompt in new]
            ids = [asking[asked][0].id for asked in new]
            texts |= zip(new, _ask(model, pairs, ids, max_new_tokens), strict=True)
        yield [
            {"question_id": question.id, "prompt": question.prompt, "text": texts[asked]}
            for asked in batch
            for question in asking[asked]
            if question.id not in done
        ]


def _ask(
    model: Answers,
    pairs: Sequence[tuple[Image.Image | None, str]],
    ids: Sequence[str],
    max_new_tokens: int,
) -> list[str]:
    try:
        answers = model.answer_batch(pairs, max_new_tokens=max_new_tokens)
    except Exception as error:
        raise RuntimeError(
            f"the model failed on the batch of questions {', '.join(ids[:8])}"
            f"{'…' if len(ids) > 8 else ''} ({type(error).__name__}: {error}); answers so far are "
            "kept, run again to go on. A smaller --batch-size takes less memory, 1 finds the row."
        ) from error
    if len(answers) != len(ids):
        raise RuntimeError(f"{len(answers)} answers to {len(ids)} questions ({ids[0]}, …).")
    return answers
