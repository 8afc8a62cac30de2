"""The settings both LLaVA stages have."""

from dataclasses import dataclass, field
from typing import Literal

from training.arguments import StageArguments
from training.sources import ConversationSource, sources


@dataclass
class LlavaArguments(StageArguments):
    conversations: list[str] = field(
        default_factory=list, metadata={"help": "Files of rows, or entries of a mixture."}
    )
    image_root: str = field(
        default="", metadata={"help": "Where paths of pictures start; default: the file's folder."}
    )
    max_length: int = field(default=2048, metadata={"help": "Tokens a row may have, with picture."})
    batch_tokens: int = field(
        default=0,
        metadata={"help": "Of a device, filled with rows; 0: per_device_train_batch_size rows."},
    )
    attention: Literal["auto", "rows", "eager", "flash_attention_2", "flex_attention"] = field(
        default="auto",
        metadata={"help": "The LLM's; auto: flash-attention where it is, else row by row."},
    )
    quarantine_budget: float = field(
        default=0.001, metadata={"help": "Share of rows that may be broken, and are left out."}
    )
    warmup_steps: float = field(default=0.03, metadata={"help": "Steps, or a share below 1."})
    weight_decay: float = field(default=0.0, metadata={"help": "None, as LLaVA-1.5."})
    train_sampling_strategy: str = field(
        default="group_by_length", metadata={"help": "As LLaVA-1.5; or random, sequential."}
    )

    def __post_init__(self) -> None:
        sources(ConversationSource, self.conversations)  # mistakes in them are told at once
        if self.batch_tokens:
            if self.batch_tokens < self.max_length:
                raise ValueError(
                    f"--batch_tokens {self.batch_tokens} must hold a row of --max_length "
                    f"{self.max_length}."
                )
            self.per_device_train_batch_size = 1
        super().__post_init__()

    @property
    def language_model_learns(self) -> bool:
        """Whether its own weights do; under adapters they stay."""
        raise NotImplementedError
