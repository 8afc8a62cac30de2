"""Checkpoints that can be trusted: whole, as they were written, and there when a run is stopped."""

from __future__ import annotations

import json
import logging
import shutil
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import reduce
from torch.utils.data import get_worker_info
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from mllm.directory import SUMS, sums, written_sums

logger = logging.getLogger("training")

TERMINATED = 128 + signal.SIGTERM  # what shells call the end by that signal


class Sums(TrainerCallback):
    """Writes the sha256 of every file of a checkpoint beside them, once all processes are done."""

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        PartialState().wait_for_everyone()
        if state.is_world_process_zero:
            directory = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
            # Last of all: a checkpoint without them was cut short.
            write_record(directory / SUMS, sums(directory))


def write_record(file: Path, told: Mapping[str, Any]) -> None:
    """As json, all of it or nothing, whenever the process is killed."""
    aside = file.with_suffix(".new")
    aside.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    aside.replace(file)


def last_checkpoint(output_dir: Path) -> Path | None:
    """The newest checkpoint-N that was written to its end; one cut short is passed over."""
    found = [path for path in _checkpoints(output_dir) if (path / SUMS).is_file()]
    return max(found, key=lambda path: int(path.name.removeprefix("checkpoint-")), default=None)


def _checkpoints(output_dir: Path) -> list[Path]:
    found = output_dir.glob("checkpoint-*")
    return [path for path in found if path.name.removeprefix("checkpoint-").isdigit()]


def remove_torn(output_dir: Path, last: Path | None) -> None:
    """Remove checkpoints that a kill cut short, when they were written or removed, but never the
    `last` one.

    Trainer would count them among `save_total_limit`, and remove whole ones in their place.
    """
    for path in _checkpoints(output_dir):
        if path != last and not all((path / name).is_file() for name in written_sums(path)):
            shutil.rmtree(path)


def require_sound(checkpoint: Path) -> None:
    """Raise ValueError if a file of `checkpoint` is not what was written."""
    written, found = written_sums(checkpoint), sums(checkpoint)
    damaged = [name for name, value in written.items() if found.get(name) != value]
    if damaged:
        raise ValueError(
            f"{checkpoint / damaged[0]} is gone or is not what was written ({len(damaged)} such "
            "files): remove the checkpoint, to go on from the one before or to begin again."
        )


def collate_unstopped(collate: Callable[[list], Any], rows: list) -> Any:
    """`collate(rows)`, by workers that outlive SIGTERM: schedulers and launchers send it to all
    processes, and one without its workers cannot finish the step. They end with that process."""
    if get_worker_info() is not None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return collate(rows)


class StopOnSignal(TrainerCallback):
    """SIGTERM, which schedulers send before they kill: the step is finished, a checkpoint saved,
    and training stops, on all processes if any of them got it. A second one ends the process."""

    def __init__(self) -> None:
        self.asked = self.stopped = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        self._before = signal.signal(signal.SIGTERM, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        # Without a word: what is printed here, in the middle of another print, is a RuntimeError.
        self.asked = True
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        asked = reduce(torch.tensor(int(self.asked), device=args.device), "sum")
        if int(asked):  # pyright: ignore[reportArgumentType], a tensor in is a tensor out
            logger.warning("Told to stop: a checkpoint follows this step.")
            self.stopped = state.global_step < state.max_steps
            control.should_save = control.should_training_stop = True

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        signal.signal(signal.SIGTERM, self._before)
