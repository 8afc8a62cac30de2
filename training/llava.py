"""What the two LLaVA stages share besides the model: its trainer, and how it is saved."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import ConcatDataset, Subset
from transformers import (
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from mllm.adapters import PeftModel, llava_of, write_base
from mllm.collate import Collator
from mllm.packs import OpenedRows, Packs
from mllm.processor import image_token_count
from training.conversation_rows import (
    measure,
    open_conversations,
    packs_of,
    require_within_budget,
    weighted,
)
from training.learning_check import LearningCheck
from training.llava_arguments import LlavaArguments
from training.progress import Meter
from training.quarantine import QUARANTINE, Quarantine
from training.row_order import LengthGroups, RowOrder, row_order
from training.stage import Save, StageTrainer

logger = logging.getLogger(__name__)


class LlavaTrainer(StageTrainer):
    """StageTrainer with a learning rate of their own for some modules.

    Args (besides StageTrainer's):
        learning_rates: pairs of a module and its rate; None leaves it at `args.learning_rate`.
        room: tokens that a batch has places for, 0: as many as its rows have.
        base: of what adapters are trained, for every checkpoint; None where all of it is saved, and
            on a process that saves nothing.
    """

    zero_is_a_loss = False  # every row has words to learn: the collator lets no other pass

    def __init__(
        self,
        *args,  # noqa: ANN002
        learning_rates: list[tuple[nn.Module, float | None]],
        room: int,
        base: dict[str, Any] | None = None,
        **kwargs,  # noqa: ANN003
    ) -> None:
        super().__init__(*args, **kwargs)
        self._learning_rates, self._base = learning_rates, base
        self._meter = Meter(self.accelerator, room)

    def losses(
        self, model: nn.Module, inputs: dict, num_items_in_batch: Tensor | int | None
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        self._meter.count(inputs)
        return super().losses(model, inputs, num_items_in_batch)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            logs.update(self._meter.read())
        super().log(logs, start_time)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        optimizer = super().create_optimizer(model)
        for module, rate in self._learning_rates:
            if rate is not None:
                _split_groups(optimizer, module, rate)
        return optimizer

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        super()._save(output_dir, state_dict)
        if self._base is not None:
            write_base(self._base, Path(str(output_dir)))

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: nn.Module | None = None
    ) -> None:
        """Trainer's own compares the names in the file with the modules', which differ in LLaVA
        (transformers keeps the classic ones on disk): it would warn, load nothing and go on from
        the initial weights (5.23)."""
        if not isinstance(self.model, LlavaForConditionalGeneration):
            return super()._load_from_checkpoint(resume_from_checkpoint, model)
        # In fp32, which holds bf16 weights exactly: those that learn are fp32 beside frozen bf16.
        saved = LlavaForConditionalGeneration.from_pretrained(
            resume_from_checkpoint, dtype=torch.float32
        )
        self.model.load_state_dict(saved.state_dict())
        return None


def _split_groups(optimizer: torch.optim.Optimizer, module: nn.Module, rate: float) -> None:
    """Move `module`'s parameters into groups of their own with learning rate `rate`."""
    chosen = {id(parameter) for parameter in module.parameters()}
    for group in list(optimizer.param_groups):
        own = [p for p in group["params"] if id(p) in chosen]
        if own:
            group["params"] = [p for p in group["params"] if id(p) not in chosen]
            optimizer.add_param_group({**group, "params": own, "lr": rate})
    optimizer.param_groups[:] = [group for group in optimizer.param_groups if group["params"]]


def llava_trainer(
    args: LlavaArguments,
    model: LlavaForConditionalGeneration | PeftModel,
    processor: LlavaProcessor,
    learning_rates: list[tuple[nn.Module, float | None]],
    base: dict[str, Any] | None = None,
) -> LlavaTrainer:
    """The trainer over `args.conversations`, after every check that needs no picture decoded.

    Raises:
        ConversationError: more rows than `args.quarantine_budget` cannot be trained on.
    """
    llava = llava_of(model)
    image_tokens = image_token_count(llava.config)
    collator = Collator(processor, image_tokens, args.max_length)
    sets, weights = open_conversations(args.conversations, args.image_root)
    with args.main_process_first(desc="read the conversations"):
        found = [measure(rows, collator) for rows in sets]
    require_within_budget(found, args.quarantine_budget)
    rows = weighted(found, weights, args.seed)
    tokens = np.concatenate([one.tokens for one in found])[rows]
    pictured = np.concatenate([one.pictured for one in found])[rows]
    packs, lengths = packs_of(tokens, pictured, args.batch_tokens, image_tokens, args.seed)
    logger.info("%d conversations an epoch.", len(rows))
    broken = Path(args.output_dir) / QUARANTINE.format("conversations")
    opened = OpenedRows(Subset(ConcatDataset(sets), rows.tolist()))
    parts = {
        "vision_tower": llava.model.vision_tower,
        "projector": llava.model.multi_modal_projector,
        "language_model": llava.model.language_model,
    }
    return LlavaTrainer(
        train_sampler=_sampler(args, lengths),
        model=model,
        args=args,
        train_dataset=Packs(Quarantine(opened, broken, args.quarantine_budget), packs),
        data_collator=collator,
        processing_class=processor,
        callbacks=[LearningCheck(parts)],
        learning_rates=learning_rates,
        room=args.batch_tokens,
        base=base,
    )


def _sampler(args: LlavaArguments, lengths: list[int]) -> RowOrder:
    """The order that `args.train_sampling_strategy` names; Trainer's own cannot see our lengths."""
    if args.batch_tokens or args.train_sampling_strategy != "group_by_length":
        shuffle = args.train_sampling_strategy != "sequential"
        return row_order(lengths, args.seed, shuffle=shuffle)
    together = args.per_device_train_batch_size * args.world_size
    return LengthGroups(lengths, together * args.gradient_accumulation_steps, args.seed)


def save_llava(
    model: LlavaForConditionalGeneration | PeftModel,
    processor: LlavaProcessor,
    base: dict[str, Any] | None = None,
) -> Save:
    """How a finished stage writes its LLaVA directory, or adapters of `base`."""

    def save(state: dict[str, Tensor], directory: Path) -> None:
        model.save_pretrained(str(directory), state_dict=state)
        processor.save_pretrained(directory)
        if base is not None:
            write_base(base, directory)

    return save
