"""Turns of training that can be timed side by side: TRL's SFTTrainer and stage 3 or 4.

Both train the same parts of one LLaVA on the same rows, with fused AdamW, gradients clipped at 1,
PyTorch's own attention, and answers alone in the loss. TRL cannot pack rows with pictures; it gets
them in random order, as it comes, or grouped by length, which is the best it can do.
"""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, cast

import datasets
import torch
from torch import nn
from transformers import (
    AutoProcessor,
    LlavaForConditionalGeneration,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from benchmarks.finetune_rows import write_captions, write_rows
from training.finetune import Finetune, learner_of
from training.llava import llava_trainer
from training.llava_arguments import LlavaArguments
from training.llava_model import open_llava
from training.pretrain_projector import PretrainProjector, let_projector_learn
from training.progress import peak_memory

MIB = 2**20
MAX_LENGTH = 2048  # tokens of a row, for both


class Turn(TrainerCallback):
    """Counts what an epoch takes and learns: the same rows for everybody, in whatever order."""

    def __init__(self, trainer: Trainer, device: str) -> None:
        self._collate, self._device = trainer.data_collator, device
        self._counts: list[tuple[int, int, int]] = []
        self._start = 0.0
        trainer.data_collator = self._counted

    def _counted(self, rows: list) -> dict[str, Any]:
        batch = self._collate(rows)
        labels = batch["labels"]
        seen = int(batch["attention_mask"].sum()) if "attention_mask" in batch else labels.numel()
        self._counts.append((int((labels != -100).sum()), seen, labels.numel()))
        return batch

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        self._start = time.perf_counter()

    def told(self) -> dict[str, float]:
        """Learned tokens a second, and the share of tokens that are padding."""
        if self._device != "cpu":
            torch.accelerator.synchronize()
        seconds = time.perf_counter() - self._start
        learned, seen, laid = (sum(one) for one in zip(*self._counts, strict=True))
        return {
            "supervised_tokens_per_second": learned / seconds,
            "tokens_per_second": seen / seconds,
            "padding_share": 1 - seen / laid,
        }


def common(batch_size: int, bf16: bool) -> dict[str, Any]:
    """What both trainers are told."""
    return {
        "per_device_train_batch_size": batch_size,
        "num_train_epochs": 1,
        "learning_rate": 1e-5,
        "lr_scheduler_type": "constant",
        "warmup_steps": 0,
        "bf16": bf16,
        "logging_steps": 1000,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": not torch.accelerator.is_available(),
    }


class Task(NamedTuple):
    """What both do: train a LLaVA directory on rows."""

    stage: str
    model: Path
    rows: Path
    output: Path
    settings: dict[str, Any]  # of TrainingArguments


class Stage(NamedTuple):
    """What learns, and of what. `args` are those of the stage for a task, `freeze` takes them and
    the LLaVA."""

    args: Callable[[Task], LlavaArguments]
    freeze: Callable[[Any, LlavaForConditionalGeneration], object]
    write_rows: Callable[..., Path]


def _finetune(task: Task) -> Finetune:
    return Finetune(model=str(task.model), **_common(task))


def _pretrain_projector(task: Task) -> PretrainProjector:
    assembled = str(task.model)  # its parts are named, and none is opened again
    return PretrainProjector(vision_tower=assembled, language_model=assembled, **_common(task))


def _common(task: Task) -> dict[str, Any]:
    return {
        "output_dir": str(task.output),
        "conversations": [str(task.rows)],
        "max_length": MAX_LENGTH,
        "attention": "rows",
        **task.settings,
    }


STAGES = {
    "finetune": Stage(_finetune, learner_of, write_rows),
    "pretrain_projector": Stage(_pretrain_projector, let_projector_learn, write_captions),
}


def fovea(task: Task) -> Trainer:
    """Ours."""
    stage = STAGES[task.stage]
    args = stage.args(task)
    llava, processor = open_llava(task.model, args)
    stage.freeze(args, llava)
    return llava_trainer(args, llava, processor, learning_rates=[])


def trl(task: Task, grouped: bool) -> Trainer:
    """SFTTrainer, its loss on learned tokens alone, no recomputation."""
    # No dependency of the kit.
    from trl import SFTConfig, SFTTrainer  # pyright: ignore[reportMissingImports]

    rows = json.loads(task.rows.read_text(encoding="utf-8"))
    told = [_chat(row, task.rows.parent) for row in rows]
    table = datasets.Dataset.from_list(told)
    table = table.cast_column("images", datasets.List(datasets.Image()))
    order = {"train_sampling_strategy": "group_by_length", "length_column_name": "length"}
    args = SFTConfig(
        output_dir=str(task.output),
        assistant_only_loss=True,
        max_length=MAX_LENGTH,
        activation_checkpointing=False,
        remove_unused_columns=False,
        **task.settings,
        **(order if grouped else {}),
    )
    llava = LlavaForConditionalGeneration.from_pretrained(task.model, dtype=torch.float32)
    stage = STAGES[task.stage]
    stage.freeze(stage.args(task), llava)
    return SFTTrainer(
        model=cast("nn.Module", llava),
        args=args,
        train_dataset=table,
        processing_class=AutoProcessor.from_pretrained(task.model),
    )


def _chat(row: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A row of LLaVA's form as TRL takes it; its length counts a picture's tokens."""
    roles = {"human": "user", "gpt": "assistant"}
    texts = [turn["value"].removeprefix("<image>\n") for turn in row["conversations"]]
    messages = [
        {"role": roles[turn["from"]], "content": text}
        for turn, text in zip(row["conversations"], texts, strict=True)
    ]
    images = [str(folder / row["image"])] if "image" in row else []
    length = sum(len(text.split()) for text in texts) + 576 * len(images)
    return {"messages": messages, "images": images, "length": length}


CONTENDERS: dict[str, Callable[[Task, int], Trainer]] = {
    "trl": lambda task, _: trl(task, grouped=False),
    "trl, grouped": lambda task, _: trl(task, grouped=True),
    "fovea": lambda task, _: fovea(task),
    "fovea, batch_tokens": lambda task, batch_tokens: fovea(
        task._replace(settings={**task.settings, "batch_tokens": batch_tokens})
    ),
}


def turn(
    contender: str, stage: str, folder: Path, settings: dict[str, Any], batch_tokens: int
) -> dict[str, float]:
    """One epoch, in this process; with its peak memory, above what the model and the libraries take
    before it."""
    device = "cpu" if settings["use_cpu"] else "cuda"
    task = Task(stage, folder / "mllm", folder / "rows/rows.json", folder / "out", settings)
    made = CONTENDERS[contender](task, batch_tokens)
    watch = Turn(made, device)
    made.add_callback(watch)
    before = _memory(device)
    made.train()
    return {**watch.told(), "peak_mib": peak_memory(torch.device(device)) / MIB - before}


def _memory(device: str) -> float:
    if device != "cpu":
        return torch.cuda.memory_allocated() / MIB
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / MIB
