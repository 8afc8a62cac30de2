"""What a tower could do before: watched while it learns, so that a collapse does not cost a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import ImageFolder
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from training.arguments import TowerArguments
from training.checkpoints import write_record
from training.recipe import from_mapping
from training.sources import Retention
from vision_tower.captions import Captions
from vision_tower.towers import Tower

PROMPT = "a photo of a {}."  # CLIP's own default
BATCH = 64
STARTED = "retention.json"  # the numbers before the first step, beside the checkpoints
Scores = dict[str, float]


class _Pictures(Dataset[Tensor]):
    """Decoded here, in workers."""

    def __init__(self, rows: Captions, preprocess: Callable[[Image.Image], Tensor]) -> None:
        self.rows, self.preprocess = rows, preprocess

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Tensor:
        return self.preprocess(self.rows[index].image)


class RetentionProbe(TrainerCallback):
    """Measures a tower before the first step and every `eval_steps`: R@1 of short captions both
    ways (argmax), and zero-shot accuracy of classes named in CLIP's default prompt.

    Args:
        tower: that learns; all of it is called on every process.
        reference: whose scores before the first step are those to keep.
        data: what is measured.
        floor: share of those scores below which the run stops with a ValueError.
        log: the Trainer's.
    """

    def __init__(
        self,
        tower: Tower,
        reference: Tower,
        data: Retention,
        floor: float,
        log: Callable[[Scores], None],
    ) -> None:
        self.tower, self.reference, self.floor, self.log = tower, reference, floor, log
        self.captions, self.classes = data.open_captions(), None
        if data.classes:
            self.classes = ImageFolder(data.classes, transform=tower.preprocess)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        file = Path(str(args.output_dir)) / STARTED
        if state.global_step and file.is_file():  # held to what the run began with
            self.first: Scores = json.loads(file.read_text(encoding="utf-8"))
            return
        self.first = self.measure(self.reference, args)
        if args.process_index == 0:
            write_record(file, self.first)
        self.log(dict(self.first))  # the Trainer adds to what it logs

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if state.global_step % state.eval_steps and state.global_step < state.max_steps:
            return
        now = self.measure(self.tower, args)
        should_log = control.should_log
        self.log(dict(now))
        control.should_log = should_log  # logging takes it away, and the losses' turn comes next
        lost = {name: score for name, score in now.items() if score < self.floor * self.first[name]}
        if lost:
            before = {name: self.first[name] for name in lost}
            raise ValueError(
                f"at step {state.global_step} the tower has lost what it could: {_told(lost)}, "
                f"before {_told(before)}; the floor of retention is {self.floor:g} of it. Lower "
                "the floor and go on from the last checkpoint; or --learning_rate, in another "
                "--output_dir."
            )

    @torch.no_grad()
    def measure(self, tower: Tower, args: TrainingArguments) -> Scores:
        """Shares of 1 by name; the state of no random generator changes."""
        learning = tower.training
        tower.to(args.device).eval()
        found: Scores = {}
        for number, captions in enumerate(self.captions):
            image_ND = _images(tower, _Pictures(captions, tower.preprocess), args)
            texts = [captions.texts(row).short for row in range(len(captions))]
            similarity_IT = image_ND @ _texts(tower, texts, args).T
            own = torch.arange(len(captions), device=args.device)
            for side, best in (("image_to_text", 1), ("text_to_image", 0)):
                hits = similarity_IT.argmax(dim=best) == own
                found[f"retention_{number}_{side}"] = hits.float().mean().item()
        if self.classes is not None:
            image_ND = _images(tower, self.classes, args)
            prompts = [PROMPT.format(name.replace("_", " ")) for name in self.classes.classes]
            told = (image_ND @ _texts(tower, prompts, args).T).argmax(dim=1)
            hits = told == torch.tensor(self.classes.targets, device=args.device)
            found["retention_zero_shot"] = hits.float().mean().item()
        tower.train(learning)
        return found


def watch(
    trainer: Trainer, args: TowerArguments, tower: Tower, teacher: Tower | None = None
) -> None:
    """Have `trainer` measure what the recipe's `retention` names, if it does. A student of a
    `teacher` is held to no floor: it has yet to get there."""
    if args.retention:
        if args.deepspeed and args.hf_deepspeed_config.is_zero3():
            raise ValueError(
                "retention is measured on whole weights, which ZeRO-3 has not: use ZeRO-2, under "
                "which any CLIP fits, or leave retention out."
            )
        data = from_mapping(Retention, args.retention)
        floor = data.floor if teacher is None else 0.0
        trainer.add_callback(RetentionProbe(tower, teacher or tower, data, floor, trainer.log))


def _images(tower: Tower, pictures: Dataset, args: TrainingArguments) -> Tensor:
    batches = DataLoader(
        pictures,
        batch_size=BATCH,
        num_workers=args.dataloader_num_workers,
        generator=torch.Generator(),  # else it would draw from the one that training draws from
    )
    dtype = next(tower.visual.parameters()).dtype  # DeepSpeed's may be bf16
    found = []
    for batch in batches:
        values = batch[0] if isinstance(batch, list) else batch
        found.append(tower.encode_image(values.to(args.device, dtype), normalize=True))
    return torch.cat(found)


def _texts(tower: Tower, texts: list[str], args: TrainingArguments) -> Tensor:
    found = [
        tower.encode_text(tower.tokenizer(texts[start : start + BATCH]).to(args.device))
        for start in range(0, len(texts), BATCH)
    ]
    return F.normalize(torch.cat(found).float(), dim=-1)


def _told(scores: Scores) -> str:
    return ", ".join(f"{name} {100 * score:.1f}" for name, score in scores.items())
