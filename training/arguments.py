"""The settings all stages share: TrainingArguments with this project's defaults."""

from dataclasses import dataclass, field

import torch
from transformers import TrainingArguments

from training.recipe import from_mapping
from training.sources import CaptionSource, Retention, sources


@dataclass
class StageArguments(TrainingArguments):
    """Subclass it with a stage's own fields (at most 12) and its published hyper-parameters."""

    output_dir: str = field(default="", metadata={"help": "Where the result is written."})
    num_train_epochs: float = field(default=1.0, metadata={"help": "Passes over the data."})
    lr_scheduler_type: str = field(default="cosine", metadata={"help": "Learning-rate schedule."})
    logging_steps: float = field(default=10, metadata={"help": "Steps between two log lines."})
    # The Trainer would hide a NaN in the logged mean; StageTrainer stops at the first one.
    logging_nan_inf_filter: bool = field(default=False, metadata={"help": "Keep it off."})
    save_steps: float = field(default=500, metadata={"help": "Steps between two checkpoints."})
    # Two at least: the Trainer removes old ones before the new one's sums are written.
    save_total_limit: int | None = field(default=2, metadata={"help": "Checkpoints to keep."})
    report_to: None | str | list[str] = field(  # noqa: RUF036, the parser wants this order
        default="tensorboard", metadata={"help": "Trackers; logs go to <output_dir>/runs."}
    )
    # Batches hold whatever the collator makes; the datasets here have no columns to prune.
    remove_unused_columns: bool = field(default=False, metadata={"help": "Keep it off."})

    def __post_init__(self) -> None:
        self.require("output_dir")
        if self.save_total_limit == 1:
            raise ValueError(
                "--save_total_limit 1 leaves nothing of a run that is killed while it saves: keep "
                "2, or all of them by 0."
            )
        # Left alone, Trainer looks for GPUs, and two processes that find none train alone, both of
        # them as the first.
        self.use_cpu = self.use_cpu or not torch.accelerator.is_available()
        super().__post_init__()

    def require(self, *names: str) -> None:
        """Raise ValueError naming every one of these fields that was left empty."""
        missing = [name for name in names if getattr(self, name) in (None, "", [])]
        if missing:
            flags = " ".join(f"--{name} ..." for name in missing)
            raise ValueError(
                f"nothing is given for {', '.join(missing)}: add it to the recipe or pass {flags}"
            )


@dataclass
class TowerArguments(StageArguments):
    """What the two tower stages share."""

    tower: str = field(
        default="", metadata={"help": "Directory, open_clip <architecture>:<tag>, hf-hub:<id>."}
    )
    captions: list[str] = field(
        default_factory=list, metadata={"help": "Long captions: files, or entries of a mixture."}
    )
    retention: str = field(
        default="", metadata={"help": "{captions: [...], classes: ..., floor: 0.8}: what to watch."}
    )
    eval_steps: float | None = field(default=500, metadata={"help": "Steps between looks at it."})
    dry_run: int = field(
        default=0, metadata={"help": "Train nothing: tell what so many devices would need."}
    )

    def __post_init__(self) -> None:
        self.require("tower", "captions")
        sources(CaptionSource, self.captions)  # mistakes in them are told at once
        if self.retention:
            from_mapping(Retention, self.retention)
        super().__post_init__()

    @property
    def processes(self) -> int:
        """That train, or would."""
        return self.dry_run or self.world_size
