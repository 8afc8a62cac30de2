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

    @property
    def dtype(self) -> str | None:
        """What it computes in; None where that is not known."""
        ...

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
    every run, down to the rounding of its sums. But for two: what is left of a batch whose rows a
    killed run had half written, and a batch that memory does not hold, are asked in smaller
    company; their sums may round otherwise, and an answer that hung on a tie may change.
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
    questions, when this returns. Batches of at most `batch_size` are halved, from there on, where
    memory runs out.

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
    rows = _answer(_Asking(model, max_new_tokens, batch_size), root, questions, share, done)
    _append(own, rows, total=len(share), title=title, shown=run.is_main_process)
    run.wait_for_everyone()
    if run.is_main_process:
        join_parts(path, made_by)
        sort_rows(path, made_by, questions)
    run.wait_for_everyone()


def _append(
    path: Path, batches: Iterable[list[dict[str, str]]], *, total: int, title: str, shown: bool
) -> None:
    """Write the rows of each batch as soon as they are there; if `shown`, with a bar of `total`."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with (
        Progress(*columns, TimeRemainingColumn(), disable=not shown) as progress,
        path.open("a", encoding="utf-8") as out,
    ):
        task = progress.add_task(title, total=total)
        for rows in batches:
            out.write("".join(map(line, rows)))
            out.flush()
            progress.advance(task)


def _answer(
    asking: _Asking,
    root: Path,
    questions: Sequence[Question],
    batches: Sequence[Sequence[Asked]],
    done: dict[str, str],
) -> Iterator[list[dict[str, str]]]:
    """Rows of each batch; none for what is done."""
    wanted: dict[Asked, list[Question]] = {}
    for question in questions:
        wanted.setdefault((question.image, question.prompt), []).append(question)
    texts = {(q.image, q.prompt): done[q.id] for q in questions if q.id in done}
    opened: dict[str, Image.Image] = {}
    for batch in batches:
        new = [asked for asked in batch if asked not in texts]
        # A picture that goes over several batches stays open, the same object to the model.
        names = dict.fromkeys(image for image, _ in new if image is not None)
        opened = {name: opened.get(name) or open_picture(root, name) for name in names}
        if new:
            pairs = [(None if image is None else opened[image], prompt) for image, prompt in new]
            ids = [wanted[asked][0].id for asked in new]
            texts |= zip(new, asking.ask(pairs, ids), strict=True)
        yield [
            {"question_id": question.id, "prompt": question.prompt, "text": texts[asked]}
            for asked in batch
            for question in wanted[asked]
            if question.id not in done
        ]


class _Asking:
    """A model, and how many questions at once its memory has turned out to hold."""

    def __init__(self, model: Answers, max_new_tokens: int, most: int) -> None:
        self.model, self.max_new_tokens, self.most = model, max_new_tokens, most

    def ask(self, pairs: Sequence[tuple[Image.Image | None, str]], ids: Sequence[str]) -> list[str]:
        """Answers to a batch; `ids` name its questions in errors."""
        answers: list[str] = []
        while len(answers) < len(pairs):
            some = slice(len(answers), len(answers) + self.most)
            said = self._try(pairs[some], ids[some])
            if said is None:
                size = len(pairs[some])
                self.most = size // 2
                logger.warning(
                    "memory does not hold %d questions at once; from here on %d (--batch-size %d "
                    "does so from the start)",
                    *(size, self.most, self.most),
                )
            else:
                answers += said
        return answers

    def _try(
        self, pairs: Sequence[tuple[Image.Image | None, str]], ids: Sequence[str]
    ) -> list[str] | None:
        """None if memory ran out, and fewer questions may need less."""
        # Heavy, and scoring a file of answers does without.
        import torch
        from accelerate.utils import release_memory

        try:
            answers = self.model.answer_batch(pairs, max_new_tokens=self.max_new_tokens)
        except Exception as error:
            if not isinstance(error, torch.OutOfMemoryError) or len(pairs) == 1:
                raise RuntimeError(
                    f"the model failed on the batch of questions {', '.join(ids[:8])}"
                    f"{'…' if len(ids) > 8 else ''} ({type(error).__name__}: {error}); answers so "
                    "far are kept, run again to go on. A smaller --batch-size takes less memory, "
                    "1 finds the row."
                ) from error
        else:
            if len(answers) != len(ids):
                raise RuntimeError(f"{len(answers)} answers to {len(ids)} questions ({ids[0]}, …).")
            return answers
        # Not above: until it is dropped, the error holds what the model had computed.
        release_memory()
        return None
