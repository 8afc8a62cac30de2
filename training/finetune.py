"""Stage 4: projector and language model learn from conversations; the tower too, if asked to.

    bash scripts/finetune.sh                                   # LLaVA-1.5's recipe
    deepspeed training/finetune.py training/recipes/finetune.yaml --tune_vision_tower True
    python training/finetune.py training/recipes/miniature/finetune.yaml

Defaults are LLaVA-1.5's (8 GPUs): learning rate 2e-5 with cosine decay and 3 % warm-up, no weight
decay, 128 conversations a step, one epoch. `output_dir` becomes the finished LLaVA directory.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import LlavaForConditionalGeneration, set_seed

from mllm.adapters import (
    Lora,
    PeftModel,
    add_adapters,
    base_record,
    read_base,
    require_same_base,
)
from training.checkpoints import last_checkpoint
from training.llava import llava_trainer, save_llava
from training.llava_arguments import LlavaArguments
from training.llava_model import keep_in_eval, open_llava, unused_tower_parts
from training.recipe import from_mapping, read_recipe
from training.stage import is_finished, one_message, run_stage, start_logging

logger = logging.getLogger("training")


@dataclass
class Finetune(LlavaArguments):
    model: str = field(default="", metadata={"help": "LLaVA directory, out of stage 3."})
    tune_vision_tower: bool = field(default=False, metadata={"help": "Let the tower learn too."})
    vision_tower_learning_rate: float | None = field(
        default=None, metadata={"help": "Of the tower, if it learns; default: learning_rate."}
    )
    projector_learning_rate: float | None = field(
        default=None, metadata={"help": "Of the projector; default: learning_rate."}
    )

    lora: str = field(
        default="",
        metadata={"help": "{rank: 128, alpha: 256, dora: ..., quantized: ...}: adapters learn."},
    )

    learning_rate: float = field(default=2e-5, metadata={"help": "Of the language model."})
    per_device_train_batch_size: int = field(default=16, metadata={"help": "Times 8 GPUs: 128."})

    def __post_init__(self) -> None:
        self.require("model", "conversations")
        _ = self.adapters  # mistakes in them are told at once
        super().__post_init__()

    @property
    def language_model_learns(self) -> bool:
        return self.adapters is None

    @property
    def adapters(self) -> Lora | None:
        """Settings of those that learn, if any do."""
        return from_mapping(Lora, self.lora) if self.lora else None


def main(argv: Sequence[str] | None = None) -> None:
    args = read_recipe(Finetune, argv)
    start_logging(args)
    if is_finished(args):
        return

    logger.info("Opening %s.", args.model)
    lora = args.adapters
    model, processor = open_llava(args.model, args, lora)
    learner = learner_of(args, model)
    base = base_of(args, lora)

    logger.info("Reading the conversations.")
    tower, projector = model.model.vision_tower, model.model.multi_modal_projector
    rates = [(tower, args.vision_tower_learning_rate), (projector, args.projector_learning_rate)]
    trainer = llava_trainer(args, learner, processor, learning_rates=rates, base=base)
    run_stage(trainer, save_llava(learner, processor, base))


def base_of(args: Finetune, lora: Lora | None) -> dict[str, Any] | None:
    """What is told of the adapters' base, on a process that saves: hashing all of it takes a while.

    Raises ValueError if a checkpoint to go on from is of other weights.
    """
    if lora is None or not args.should_save:
        return None
    record = base_record(args.model, lora)
    checkpoint = last_checkpoint(Path(args.output_dir))
    if checkpoint is not None:
        require_same_base(read_base(checkpoint), record["sha256"], checkpoint)
    return record


def learner_of(
    args: Finetune, model: LlavaForConditionalGeneration
) -> LlavaForConditionalGeneration | PeftModel:
    """`model` with what learns and what does not, in the open; with adapters if there are any."""
    tower = model.model.vision_tower
    if not args.tune_vision_tower:
        keep_in_eval(tower)
    lora = args.adapters
    if lora is not None:
        logger.info("Projector and adapters of the language model learn: %s.", lora)
        set_seed(args.seed)  # the adapters' first weights are drawn before the Trainer sets it
        learner = add_adapters(model, lora, tower=args.tune_vision_tower)
    else:
        logger.info("Projector and language model learn.")
        model.requires_grad_(True)
        tower.requires_grad_(args.tune_vision_tower)
        learner = model
    logger.info("The tower learns: %s.", args.tune_vision_tower)
    for part in unused_tower_parts(model):
        part.requires_grad_(False)
    return learner


if __name__ == "__main__":
    with one_message():
        main()
