"""Stage 2: train both encoders of a tower on short and long captions and on edit pairs (CLIP-IN).

python training/train_vision_tower.py training/recipes/train_vision_tower.yaml --tower <dir> ...
deepspeed training/train_vision_tower.py <recipe> --deepspeed training/deepspeed/zero2.json
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import pydantic
from torch.utils.data import ConcatDataset

from training.arguments import TowerArguments
from training.contrastive import ContrastiveTrainer
from training.dry_run import dry_run
from training.quarantine import QUARANTINE, Quarantine
from training.recipe import from_mapping, read_recipe
from training.retention import watch
from training.sources import open_captions, open_edits
from training.stage import is_finished, one_message, run_stage, start_logging
from vision_tower.batches import CaptionsAndEdits, PairCollator, PairedSampler
from vision_tower.export import check_exportable
from vision_tower.losses import (
    Sigmoid,
    Softmax,
    image_anchored_loss,
    source_anchored_loss,
    symmetric_loss,
)
from vision_tower.mixture import Mixture
from vision_tower.objectives import ContrastiveObjective
from vision_tower.towers import Tower, load_tower, save_tower

logger = logging.getLogger("training")

EDIT_LOSSES = {
    "negclip": source_anchored_loss,
    "tripletclip": image_anchored_loss,
    "symmetric": symmetric_loss,
}
MATCHES = {"softmax": Softmax, "sigmoid": Sigmoid}


Weight = Annotated[float, pydantic.Field(ge=0, allow_inf_nan=False)]


@pydantic.dataclasses.dataclass(frozen=True, config=pydantic.ConfigDict(extra="forbid"))
class LossWeights:
    """One of weight 0 is neither encoded nor computed."""

    short: Weight = 1.0
    long: Weight = 1.0
    hard_negative: Weight = 1.0


@dataclass
class TrainVisionTower(TowerArguments):
    """Defaults: Long-CLIP's, FG-CLIP's and HiMo-CLIP's common recipe, over 8 GPUs."""

    edits: list[str] = field(
        default_factory=list, metadata={"help": "Edit pairs: files, or entries of a mixture."}
    )
    quarantine_budget: float = field(
        default=0.001, metadata={"help": "Share of rows that may be broken, and are replaced."}
    )
    edit_batch_size: int = field(default=256, metadata={"help": "Edit pairs per device and step."})
    loss_weights: str = field(
        default="{short: 1, long: 1, hard_negative: 1}",
        metadata={"help": "Of L_short, L_long and L_HN; 1 each that is left out."},
    )
    match: Literal["softmax", "sigmoid"] = field(
        default="softmax", metadata={"help": "CLIP's InfoNCE, or SigLIP's, for towers with a bias."}
    )
    edit_loss: Literal["negclip", "tripletclip", "symmetric"] = field(
        default="symmetric", metadata={"help": "Which anchors of an edit pair L_HN takes."}
    )

    learning: list[str] = field(
        default_factory=lambda: ["image", "text", "temperature"],
        metadata={"help": "Which parts of the tower learn; a bias goes with the temperature."},
    )

    per_device_train_batch_size: int = field(
        default=256, metadata={"help": "Caption rows per device and step."}
    )
    learning_rate: float = field(default=1e-6, metadata={"help": "AdamW's peak rate."})
    weight_decay: float = field(default=0.01, metadata={"help": "AdamW's decay."})
    warmup_steps: float = field(default=200, metadata={"help": "Steps, or a share below 1."})

    def __post_init__(self) -> None:
        self.loss_weights = json.dumps(vars(self.weights))  # a recipe said otherwise is the same
        if self.weights.hard_negative:
            self.require("edits", "edit_batch_size")
        if not self.learning or set(self.learning) - {"image", "text", "temperature"}:
            raise ValueError(f"--learning takes image, text and temperature, not {self.learning}.")
        self.dataloader_drop_last = True  # every rank must bring as many rows to the global loss
        super().__post_init__()

    @property
    def weights(self) -> LossWeights:
        return from_mapping(LossWeights, self.loss_weights)


def read_rows(args: TrainVisionTower, tower: Tower) -> tuple[CaptionsAndEdits, PairedSampler]:
    """Captions, edit pairs if they are wanted, and which of them meet in a step."""
    micro_batches = args.processes * args.gradient_accumulation_steps
    side = max(tower.visual.image_size)
    captions, weights = open_captions(args.captions, side=side)
    size = args.per_device_train_batch_size * micro_batches
    caption_rows = Mixture(captions, weights, size, (args.seed, 0), "caption")
    edits, weights = [], []
    if args.weights.hard_negative:
        edits, weights = open_edits(args.edits, side)
    size = args.edit_batch_size * micro_batches if edits else 0
    edit_rows = Mixture(edits, weights, size, (args.seed, 1), "edit")
    logger.info("Captions: %s. Edit pairs: %s.", caption_rows, edit_rows)
    broken, budget = Path(args.output_dir), args.quarantine_budget
    rows = CaptionsAndEdits(
        Quarantine(ConcatDataset(captions), broken / QUARANTINE.format("captions"), budget),
        Quarantine(ConcatDataset(edits), broken / QUARANTINE.format("edits"), budget)
        if edits
        else [],
        tower.preprocess,
    )
    return rows, PairedSampler(caption_rows, edit_rows)


def learning_objective(args: TrainVisionTower) -> ContrastiveObjective:
    """Of the tower, whose parts learn as the recipe says."""
    tower = load_tower(args.tower, weights=not args.dry_run)
    check_exportable(tower.visual, tower.config["preprocess_cfg"])
    if args.dry_run:
        tower.tokenizer.groups = 1  # simulated tokens have no lengths
    tower.requires_grad_(False)
    tower.visual.requires_grad_("image" in args.learning)
    tower.text.requires_grad_("text" in args.learning)
    tower.logit_scale.requires_grad_("temperature" in args.learning)
    match = MATCHES[args.match]
    if match is Sigmoid and tower.logit_bias is not None:
        tower.logit_bias.requires_grad_("temperature" in args.learning)
    return ContrastiveObjective(
        tower, **vars(args.weights), edit_loss=EDIT_LOSSES[args.edit_loss], match=match
    )


def main(argv: Sequence[str] | None = None) -> None:
    args = read_recipe(TrainVisionTower, argv)
    start_logging(args)
    if is_finished(args):
        return None

    logger.info("Loading the tower %s.", args.tower)
    objective = learning_objective(args)
    tower = objective.tower

    logger.info("Reading captions and edit pairs.")
    rows, sampler = read_rows(args, tower)
    collator = PairCollator(tower.tokenizer)
    if args.dry_run:
        return dry_run(
            args,
            objective,
            rows,
            sampler,
            collator,
            loss=lambda batch: objective.losses(objective(**batch))["loss"],
        )
    trainer = ContrastiveTrainer(
        model=objective,
        args=args,
        train_dataset=rows,
        train_sampler=sampler,
        data_collator=collator,
    )
    watch(trainer, args, tower)
    prefix = "tower."
    return run_stage(
        trainer,
        lambda state, directory: save_tower(
            tower, directory, {name.removeprefix(prefix): v for name, v in state.items()}
        ),
    )


if __name__ == "__main__":
    with one_message():
        main()
