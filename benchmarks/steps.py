"""Training steps that can be timed side by side: open_clip_train's and stage 2's.

Both are the loops that people run, `train_one_epoch` and the Trainer of `train_vision_tower.py`, on
tensors that already lie on the device. They share what is not theirs: fused AdamW at one constant
rate and without decay, gradients clipped at 1, bf16 autocast or none.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import open_clip
import torch
from open_clip_train.distributed import init_distributed_device
from open_clip_train.params import parse_args
from open_clip_train.train import train_one_epoch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import (
    PrinterCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from training.arguments import StageArguments
from training.contrastive import ContrastiveTrainer
from training.row_order import row_order
from vision_tower.objectives import ContrastiveObjective

LEARNING_RATE, CLIP_NORM = 1e-4, 1.0

Batch = dict[str, Tensor]  # arguments of ContrastiveObjective
Turn = Callable[[], float]  # trains on all its batches; seconds per step, the first left out


@dataclass(frozen=True)
class Machine:
    device: str  # "cpu" or "cuda"
    bf16: bool


def now(device: str) -> float:
    """Seconds, once the device has done all that it was given."""
    if device != "cpu":
        torch.accelerator.synchronize()
    return time.perf_counter()


class OpenClipTurn:
    """open_clip_train's own epoch over `batches`, pictures and short texts. `losses` are those of
    the first step of each turn."""

    def __init__(
        self, architecture: str, weights: Path, batches: Sequence[Batch], machine: Machine
    ) -> None:
        rows = len(batches[0]["pixel_values"])
        precision = "amp_bf16" if machine.bf16 else "fp32"
        self.args = parse_args(
            [f"--batch-size={rows}", f"--precision={precision}", f"--grad-clip-norm={CLIP_NORM}",
             "--skip-scheduler", f"--device={machine.device}"]
        )  # fmt: skip
        self.device = init_distributed_device(self.args)
        self.args.distill, self.args.wandb = False, False  # open_clip_train.main derives them
        self.model = open_clip.create_model(
            architecture, str(weights), device=self.device, output_dict=True
        )
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=LEARNING_RATE, weight_decay=0.0, fused=True
        )
        self.batches, self.losses = batches, []
        # It is its own `data`, loader and tensorboard to open_clip_train.
        self.dataloader = self
        self.num_batches, self.num_samples = len(batches), len(batches) * rows

    def __call__(self) -> float:
        train_one_epoch(
            self.model, {"train": self}, open_clip.ClipLoss(), 0, self.optimizer,
            scaler=None, scheduler=None, dist_model=None, args=self.args, tb_writer=self,
        )  # fmt: skip
        return (self._end - self._start) / (self.num_batches - 1)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Asked for a batch, the loop has done with the one before."""
        for number, batch in enumerate(self.batches):
            if number == 1:
                self._start = now(self.device.type)
            yield batch["pixel_values"], batch["short_tokens"]
        self._end = now(self.device.type)

    def set_epoch(self, epoch: int) -> None:
        """The batches stay as they are."""

    def add_scalar(self, name: str, value: float, step: int) -> None:
        if (name, step) == ("train/loss", 0):
            self.losses.append(value)


class FoveaTurn(TrainerCallback):
    """Stage 2's Trainer over `batches`; `micro_batches` of them are one step. `losses` as above."""

    def __init__(
        self,
        objective: ContrastiveObjective,
        batches: Sequence[Batch],
        machine: Machine,
        output_dir: Path,
        micro_batches: int = 1,
    ) -> None:
        args = StageArguments(
            output_dir=str(output_dir),
            max_steps=len(batches) // micro_batches,
            per_device_train_batch_size=1,  # a row of the data set is a whole batch
            gradient_accumulation_steps=micro_batches,
            learning_rate=LEARNING_RATE,
            lr_scheduler_type="constant",
            max_grad_norm=CLIP_NORM,
            bf16=machine.bf16,
            use_cpu=machine.device == "cpu",
            dataloader_pin_memory=False,  # the batches lie on the device
            logging_first_step=True,
            logging_steps=100,  # open_clip_train's
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        rows = cast("Dataset", batches)
        self.trainer = ContrastiveTrainer(
            model=objective,
            args=args,
            train_dataset=rows,
            train_sampler=row_order(rows, seed=0, shuffle=False),
            data_collator=lambda batches: {**batches[0], "row_ids": []},
        )
        self.trainer.remove_callback(PrinterCallback)
        self.trainer.add_callback(self)
        self.losses = []

    def __call__(self) -> float:
        self.trainer.train()
        self.losses.append(self.trainer.state.log_history[0]["loss"])
        return (self._end - self._start) / (self.trainer.args.max_steps - 1)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if state.global_step == 1:
            self._start = now(args.device.type)
        if state.global_step == args.max_steps:
            self._end = now(args.device.type)


class TextTurn:
    """A text encoder alone, forward and backward; a step may hand it several batches of tokens."""

    def __init__(
        self, encode: Callable[[Tensor], Tensor], steps: Sequence[list[Tensor]], machine: Machine
    ) -> None:
        self.encode, self.steps, self.machine = encode, steps, machine

    def __call__(self) -> float:
        self._step(self.steps[0])
        start = now(self.machine.device)
        for token_batches in self.steps[1:]:
            self._step(token_batches)
        return (now(self.machine.device) - start) / (len(self.steps) - 1)

    def _step(self, token_batches: list[Tensor]) -> None:
        with torch.autocast(self.machine.device, torch.bfloat16, enabled=self.machine.bf16):
            features = [self.encode(token_BL) for token_BL in token_batches]
        torch.cat(features).float().sum().backward()
