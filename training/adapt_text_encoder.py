"""Stage 1: give a CLIP's text encoder rotary positions, distilled from the original.

torchrun --nproc_per_node 8 training/adapt_text_encoder.py training/recipes/adapt_text_encoder.yaml
python training/adapt_text_encoder.py training/recipes/miniature/adapt_text_encoder.yaml
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor
from torch.utils.data import ConcatDataset

from training.arguments import TowerArguments
from training.dry_run import dry_run
from training.recipe import read_recipe
from training.retention import watch
from training.sources import open_captions
from training.stage import (
    StageTrainer,
    is_finished,
    one_message,
    run_stage,
    start_logging,
)
from vision_tower.batches import CaptionTexts, TextCollator
from vision_tower.export import check_exportable
from vision_tower.mixture import Mixture
from vision_tower.objectives import DistillationObjective
from vision_tower.rotary_text import ntk_base, replaceable
from vision_tower.towers import Tower, load_tower, save_tower

logger = logging.getLogger("training")


@dataclass
class AdaptTextEncoder(TowerArguments):
    """Defaults: TULIP's recipe, whose rotary text encoder CLIP-IN uses; 640 texts over 8 GPUs."""

    context_length: int = field(default=248, metadata={"help": "Tokens a caption may have."})
    rotary_base: float = field(default=10000.0, metadata={"help": "Base of the rotary angles."})
    ntk_factor: float = field(
        default=0.0, metadata={"help": "NTK scaling of the base to context_length; TULIP's is 8."}
    )
    distillation: Literal["cosine", "mse"] = field(
        default="cosine", metadata={"help": "How the student follows the teacher."}
    )

    per_device_train_batch_size: int = field(default=80, metadata={"help": "Texts per device."})
    num_train_epochs: float = field(default=5.0, metadata={"help": "Passes over the captions."})
    learning_rate: float = field(default=5e-4, metadata={"help": "AdamW's peak rate."})
    weight_decay: float = field(default=0.1, metadata={"help": "AdamW's decay."})
    warmup_steps: float = field(default=1000, metadata={"help": "Steps, or a share below 1."})


def rotary_student(teacher: Tower, args: AdaptTextEncoder) -> Tower:
    """Its config records the base that NTK scaling, if asked for, makes of the recipe's."""
    text = replaceable(teacher.text)
    lengths = (teacher.context_length, args.context_length)
    base = ntk_base(args.rotary_base, text.width // text.heads, *lengths, args.ntk_factor)
    student = teacher.with_rotary_text(args.context_length, base)
    student.text.token_embedding.requires_grad_(False)  # as TULIP: words keep their meaning
    return student


def main(argv: Sequence[str] | None = None) -> None:
    args = read_recipe(AdaptTextEncoder, argv)
    start_logging(args)
    if is_finished(args):
        return None

    logger.info("Loading the tower %s.", args.tower)
    teacher = load_tower(args.tower, weights=not args.dry_run)
    check_exportable(teacher.visual, teacher.config["preprocess_cfg"])

    logger.info("Making a student with rotary positions for %d tokens.", args.context_length)
    student = rotary_student(teacher, args)

    logger.info("Reading captions.")
    captions, weights = open_captions(args.captions, images=False)
    texts = [CaptionTexts(part) for part in captions]
    size = args.per_device_train_batch_size * args.processes * args.gradient_accumulation_steps
    sampler = Mixture(texts, weights, size, (args.seed,), "caption")
    logger.info("Distilling on short and long captions: %s.", sampler)
    objective = DistillationObjective(student.text, teacher.text, args.distillation)
    rows, collator = ConcatDataset(texts), TextCollator(teacher.tokenizer, student.tokenizer)
    if args.dry_run:
        return dry_run(
            args, objective, rows, sampler, collator, loss=lambda batch: objective(**batch)["loss"]
        )
    trainer = StageTrainer(
        model=objective,
        args=args,
        train_dataset=rows,
        train_sampler=sampler,
        data_collator=collator,
    )

    watch(trainer, args, student, teacher)
    return run_stage(
        trainer,
        lambda state, directory: save_tower(
            student, directory, {**student.state_dict(), **_trained(state)}
        ),
    )


def _trained(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The student's weights by the tower's names."""
    prefix = "student."
    return {f"text.{n.removeprefix(prefix)}": v for n, v in state.items() if n.startswith(prefix)}


if __name__ == "__main__":
    with one_message():
        main()
