"""What the four training stages share: arguments, the Trainer, and a run from start to finish.

A stage script reads its recipe, calls `start_logging(args)`, returns at once if
`is_finished(args)`, builds model and data, and calls `run_stage(trainer, save)`, all of it under
`one_message()`. The finished `output_dir` is itself the tower or MLLM directory. Scripts log
through the logger "training": their `__name__` is "__main__" when they are run.
"""

from __future__ import annotations

import json
import logging
import math
import shutil
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Sampler
from transformers import ProgressCallback, Trainer

from mllm.directory import SUMS, sums
from training.arguments import StageArguments
from training.checkpoints import (
    TERMINATED,
    StopOnSignal,
    Sums,
    collate_unstopped,
    last_checkpoint,
    remove_torn,
    require_sound,
    write_record,
)
from training.progress import Bar, parameter_table
from training.provenance import RECORD, provenance, require_same_recipe, resolved_recipe
from training.quarantine import QUARANTINE, quarantined
from training.row_order import RowOrder, TellEpoch

logger = logging.getLogger(__name__)

STARTED = "started.json"  # the recipe of the checkpoints beside it, until recipe.json is written
COMPILED = "_orig_mod."  # what torch.compile puts before names of weights
Save = Callable[[dict[str, Tensor], Path], None]


def start_logging(args: StageArguments) -> None:
    """Log this project's lines on the first process; other libraries only when they warn."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    if args.process_index == 0:
        level = logging.DEBUG if args.log_level == "debug" else logging.INFO
        for name in ("training", "vision_tower", "mllm"):
            logging.getLogger(name).setLevel(level)


@contextmanager
def one_message() -> Iterator[None]:
    """An error that the user can mend ends the process with its message alone, and status 1.

    With --log_level debug its traceback is logged first. All other errors keep theirs.
    """
    try:
        yield
    except (OSError, ValueError, FloatingPointError) as error:
        logger.debug("Where it happened:", exc_info=True)
        text = str(error)
        if text.startswith("Caught "):  # what a DataLoader worker raised: its traceback as text
            text = text.rpartition(f"{type(error).__name__}: ")[2].strip()
        sys.exit(f"error: {text}")


class StageTrainer(Trainer):
    """Trainer for models that return `{"loss": ..., <name>: scalar, ...}`.

    Every scalar beside "loss" is logged under its own name, averaged since the last log and over
    ranks. A batch may carry `row_ids` (list of str): it never reaches the model and names the rows
    if the loss is not finite. `train_sampler` orders the training rows.
    """

    zero_is_a_loss = True  # contrastive losses are 0 where a row has no other beside it

    def __init__(self, *args, train_sampler: RowOrder, **kwargs) -> None:  # noqa: ANN002, ANN003
        super().__init__(*args, **kwargs)
        if self.args.n_gpu > 1:  # DataParallel would split the rows that a loss sees together
            raise ValueError(
                f"one process sees {self.args.n_gpu} GPUs: start with `deepspeed` or `torchrun`, "
                "or show it one with CUDA_VISIBLE_DEVICES."
            )
        self.data_collator = partial(collate_unstopped, self.data_collator)
        self._train_sampler = train_sampler
        self.add_callback(TellEpoch(train_sampler))
        if self.pop_callback(ProgressCallback) is not None:  # it is there unless disable_tqdm
            self.add_callback(Bar())
        self.add_callback(Sums())
        self.stop_on_signal = StopOnSignal()
        self.add_callback(self.stop_on_signal)
        self._named_losses: dict[str, list[Tensor]] = defaultdict(list)

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler | None:
        return cast("Sampler", self._train_sampler)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict,
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, Mapping]:
        row_ids = inputs.pop("row_ids", ["(the collator gave no row_ids)"])
        loss, outputs = self.losses(model, inputs, num_items_in_batch)
        self._require_a_loss(loss.item(), row_ids)
        for name, value in outputs.items():
            if model.training and name != "loss" and torch.is_tensor(value) and value.ndim == 0:
                self._named_losses[name].append(value.detach())
        return (loss, outputs) if return_outputs else loss

    def _require_a_loss(self, loss: float, row_ids: list[str]) -> None:
        if math.isfinite(loss) and (loss or self.zero_is_a_loss):
            return
        remedy = "if they are sound, lower --learning_rate or set --max_grad_norm."
        if loss == 0:
            remedy = "nothing of them is learned, or all of it is known by heart "
            remedy += "(scripts/check_data.py --show)."
        raise FloatingPointError(
            f"the loss is {loss} at step {self.state.global_step} on rank "
            f"{self.args.process_index}, rows {row_ids}. Look at these rows; {remedy}"
        )

    def losses(
        self, model: nn.Module, inputs: dict, num_items_in_batch: Tensor | int | None
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """What to minimise, and what to log beside it by name."""
        told = super().compute_loss(model, inputs, True, num_items_in_batch)
        return cast("tuple[Tensor, Mapping[str, Tensor]]", told)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:  # the training log, not the final summary or an evaluation
            for name, values in sorted(self._named_losses.items()):
                mean = self.accelerator.reduce(torch.stack(values).float().mean(), "mean")
                logs[name] = cast("Tensor", mean).item()
            self._named_losses.clear()
        super().log(logs, start_time)

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        # As open_clip: decaying the temperature or the class token pulls them to zero for nothing.
        exempt = ("logit_scale", "logit_bias", "class_embedding")
        return [n for n in super().get_decay_parameter_names(model) if not n.endswith(exempt)]


def is_finished(args: StageArguments) -> bool:
    """Whether `args.output_dir` already holds this recipe's result; logs it if so.

    Raises ValueError if it holds the result, or checkpoints, of another recipe.
    """
    output_dir = Path(args.output_dir)
    record = output_dir / RECORD
    if record.is_file():
        require_same_recipe(args, record, "a finished stage")
        logger.info("%s is finished (see %s): nothing to do.", args.output_dir, record)
        return True
    if last_checkpoint(output_dir) is not None:
        started = output_dir / STARTED
        if not started.is_file():
            raise ValueError(
                f"{output_dir} holds checkpoints, and no {STARTED} that says by which recipe. "
                "Choose another --output_dir, or delete this one to train again."
            )
        require_same_recipe(args, started, "checkpoints of a stage")
        _require_same_processes(args, started)
    return False


def _require_same_processes(args: StageArguments, started: Path) -> None:
    """The order of the rows, and how many meet in a step, depend on it."""
    processes = json.loads(started.read_text(encoding="utf-8"))["processes"]
    if processes != args.world_size:
        raise ValueError(
            f"{args.output_dir} was begun with {processes} processes and cannot go on with "
            f"{args.world_size}: start as many, or choose another --output_dir."
        )


def run_stage(trainer: StageTrainer, save: Save) -> None:
    """Train, from the last whole checkpoint in output_dir if there is one, and save the result.

    Ends the process with status 143 if SIGTERM stopped it, with a checkpoint instead of a result.
    Raises ValueError if the checkpoint is damaged.

    `save(state, directory)` is called on the first process alone, with the whole state dict of the
    trainer's model on CPU (gathered under ZeRO-3, where the live parameters are only shards: write
    `state`, never `model.state_dict()`). Files are written aside, their sums beside them, and
    renamed; recipe.json is last.
    """
    output_dir = Path(str(trainer.args.output_dir))
    recipe = {"recipe": resolved_recipe(trainer.args), "processes": trainer.args.world_size}
    logger.info("Parameters:\n%s", parameter_table(cast("nn.Module", trainer.model)))
    checkpoint = last_checkpoint(output_dir)
    if checkpoint is not None:
        logger.info("Going on from %s.", checkpoint)
    if trainer.args.process_index == 0:
        _begin(output_dir, recipe, checkpoint)
    trainer.accelerator.wait_for_everyone()
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    if trainer.stop_on_signal.stopped:
        logger.info("Stopped at step %d: the same command goes on.", trainer.state.global_step)
        sys.exit(TERMINATED)
    for file in sorted(output_dir.glob(QUARANTINE.format("*"))):
        logger.warning("%d rows could not be read: see %s.", len(quarantined(file)), file)
    logger.info("Saving the result to %s.", output_dir)
    state = cast("dict[str, Tensor]", trainer.accelerator.get_state_dict(trainer.model_wrapped))
    if trainer.args.process_index == 0:
        aside = output_dir / ".unfinished"
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        save({name.removeprefix(COMPILED): t.cpu() for name, t in state.items()}, aside)
        write_record(aside / SUMS, sums(aside))
        made = {"stage": type(trainer.args).__name__, **recipe}
        record = json.dumps({**made, **provenance()}, indent=2)
        (aside / RECORD).write_text(record + "\n", encoding="utf-8")
        _move_into(aside, output_dir)
        (output_dir / STARTED).unlink()
    trainer.accelerator.wait_for_everyone()


def _begin(output_dir: Path, recipe: dict[str, object], checkpoint: Path | None) -> None:
    """Leave in `output_dir` what a run that is killed is told by."""
    if checkpoint is not None:
        require_sound(checkpoint)
    output_dir.mkdir(parents=True, exist_ok=True)
    remove_torn(output_dir, checkpoint)
    write_record(output_dir / STARTED, recipe)
    if checkpoint is None:  # of a run that never got to one
        for file in output_dir.glob(QUARANTINE.format("*")):
            file.unlink()


def _move_into(aside: Path, output_dir: Path) -> None:
    """Move every entry of `aside`, the record last: its presence means that all is there."""
    for entry in sorted(aside.iterdir(), key=lambda entry: entry.name == RECORD):
        target = output_dir / entry.name
        if target.is_dir():
            shutil.rmtree(target)
        entry.replace(target)
    aside.rmdir()
