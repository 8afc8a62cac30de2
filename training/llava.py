"""What the two LLaVA stages share: assembling once, opening the model, its data, and its
trainer."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.data import ConcatDataset
from transformers import (
    AutoProcessor,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)
from transformers.integrations.deepspeed import (
    set_hf_deepspeed_config,
    unset_hf_deepspeed_config,
)
from transformers.utils.import_utils import is_flash_attn_2_available

from mllm.assemble import assemble, image_token_count
from mllm.collate import Collator
from mllm.directory import require_llava
from mllm.packs import Packs
from mllm.row_attention import ROWS
from training.conversation_rows import (
    measure,
    open_conversations,
    packs_of,
    require_within_budget,
    weighted,
)
from training.learning_check import LearningCheck
from training.llava_arguments import LlavaArguments
from training.quarantine import QUARANTINE, Quarantine
from training.row_order import LengthGroups, RowOrder, row_order
from training.stage import Save, StageTrainer, last_checkpoint

logger = logging.getLogger(__name__)


class LlavaTrainer(StageTrainer):
    """StageTrainer with a learning rate of their own for some modules.

    Args (besides StageTrainer's):
        learning_rates: pairs of a module and its rate; None leaves it at `args.learning_rate`.
    """

    def __init__(
        self,
        *args,  # noqa: ANN002
        learning_rates: list[tuple[nn.Module, float | None]],
        **kwargs,  # noqa: ANN003
    ) -> None:
        super().__init__(*args, **kwargs)
        self._learning_rates = learning_rates

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        optimizer = super().create_optimizer(model)
        for module, rate in self._learning_rates:
            if rate is not None:
                _split_groups(optimizer, module, rate)
        return optimizer

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: nn.Module | None = None
    ) -> None:
        """Trainer's own compares the names in the file with the modules', which differ in LLaVA
        (transformers keeps the classic ones on disk): it would warn, load nothing and go on from
        the initial weights (5.23)."""
        ours = cast("LlavaForConditionalGeneration", self.model)
        saved = LlavaForConditionalGeneration.from_pretrained(
            resume_from_checkpoint, dtype=ours.dtype
        )
        ours.load_state_dict(saved.state_dict())


def _split_groups(optimizer: torch.optim.Optimizer, module: nn.Module, rate: float) -> None:
    """Move `module`'s parameters into groups of their own with learning rate `rate`."""
    chosen = {id(parameter) for parameter in module.parameters()}
    for group in list(optimizer.param_groups):
        own = [p for p in group["params"] if id(p) in chosen]
        if own:
            group["params"] = [p for p in group["params"] if id(p) not in chosen]
            optimizer.add_param_group({**group, "params": own, "lr": rate})
    optimizer.param_groups[:] = [group for group in optimizer.param_groups if group["params"]]


def assemble_once(
    args: LlavaArguments, vision_tower: str, language_model: str, system: str | None
) -> Path:
    """Assemble the model on the first process; every process then opens the directory.

    A run that goes on from a checkpoint keeps the directory it began with. Under ZeRO-3 parts are
    opened whole: sharding them, on one process alone, would wait for the others for ever.
    """
    output_dir = Path(args.output_dir)
    directory = output_dir / "assembled"
    dtype = torch.bfloat16 if args.bf16 else torch.float32
    with args.main_process_first(local=False, desc="assemble"):
        begun = directory.is_dir() and last_checkpoint(output_dir) is not None
        if args.process_index == 0 and not begun:
            with _whole_models(args):
                assemble(
                    vision_tower,
                    language_model,
                    directory,
                    system=system,
                    dtype=dtype,
                    seed=args.seed,
                )
    if not directory.is_dir():
        raise ValueError(f"the first process could not assemble {directory}: its message says why.")
    return directory


@contextmanager
def _whole_models(args: LlavaArguments) -> Iterator[None]:
    """transformers forgets DeepSpeed meanwhile, so that ZeRO-3 does not shard what is opened."""
    unset_hf_deepspeed_config()
    try:
        yield
    finally:
        if args.deepspeed:
            set_hf_deepspeed_config(args.hf_deepspeed_config)


def open_llava(
    directory: str | Path, args: LlavaArguments
) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    """The model and processor of a LLaVA directory, for training.

    DeepSpeed keeps its own fp32 copy of bf16 weights. Without it the weights themselves stay fp32,
    and bf16 is the autocast's business.
    """
    require_llava(directory)
    dtype = torch.bfloat16 if args.bf16 and args.deepspeed else torch.float32
    # On GPUs ZeRO-3 shards while it loads. On CPUs DeepSpeed's communication only starts with the
    # engine (Trainer's `use_cpu`), and the engine shards there.
    with _whole_models(args) if args.use_cpu else nullcontext():
        model = LlavaForConditionalGeneration.from_pretrained(
            directory,
            dtype=dtype,
            attn_implementation={"text_config": _attention(args, directory)},
        )
    return model, AutoProcessor.from_pretrained(directory)


def _attention(args: LlavaArguments, directory: str | Path) -> str:
    """What reads the LLM's attention: as `args.attention` says, or the fastest that is there."""
    if args.attention != "auto":
        return args.attention
    if args.bf16 and is_flash_attn_2_available():
        return "flash_attention_2"
    settings, _ = LlavaConfig.get_config_dict(directory)
    # PyTorch's kernels know no soft cap of attention (Gemma 2).
    capped = settings["text_config"].get("attn_logit_softcapping") is not None
    return "eager" if capped else ROWS


def unused_tower_parts(model: LlavaForConditionalGeneration) -> list[nn.Module]:
    """The tower's modules behind the layer whose features are read; they never get a gradient."""
    tower = model.model.vision_tower
    layers, read = tower.encoder.layers, model.config.vision_feature_layer
    # Hidden state n is the output of n layers; of all of them, counted from the end, it is -1.
    states = read if isinstance(read, list) else [read]
    used = max(state if state >= 0 else len(layers) + 1 + state for state in states)
    on_the_way = {"embeddings", "pre_layrnorm", "encoder"}
    behind = [part for name, part in tower.named_children() if name not in on_the_way]
    return [*layers[used:], *behind]


def keep_in_eval(module: nn.Module) -> None:
    """Hold a frozen module in eval mode: Trainer puts the whole model into train mode each step."""
    module.register_forward_pre_hook(lambda frozen, _: frozen.eval() and None)


def llava_trainer(
    args: LlavaArguments,
    model: LlavaForConditionalGeneration,
    processor: LlavaProcessor,
    learning_rates: list[tuple[nn.Module, float | None]],
) -> LlavaTrainer:
    """The trainer over `args.conversations`, after every check that needs no picture decoded.

    Raises:
        ConversationError: more rows than `args.quarantine_budget` cannot be trained on.
    """
    collator = Collator(processor, image_token_count(model.config), args.max_length)
    sets, weights = open_conversations(args.conversations, args.image_root)
    with args.main_process_first(desc="read the conversations"):
        found = [measure(rows, collator) for rows in sets]
    require_within_budget(found, args.quarantine_budget)
    rows = weighted(found, weights, args.seed)
    packs, lengths = packs_of(rows, found, args.batch_tokens, args.seed)
    logger.info("%d conversations an epoch.", len(rows))
    broken = Path(args.output_dir) / QUARANTINE.format("conversations")
    parts = {
        "vision_tower": model.model.vision_tower,
        "projector": model.model.multi_modal_projector,
        "language_model": model.model.language_model,
    }
    return LlavaTrainer(
        train_sampler=_sampler(args, lengths),
        model=model,
        args=args,
        train_dataset=Quarantine(Packs(ConcatDataset(sets), packs), broken, args.quarantine_budget),
        data_collator=collator,
        processing_class=processor,
        callbacks=[LearningCheck(parts)],
        learning_rates=learning_rates,
    )


def _sampler(args: LlavaArguments, lengths: list[int]) -> RowOrder:
    """The order that `args.train_sampling_strategy` names; Trainer's own cannot see our lengths."""
    if args.batch_tokens or args.train_sampling_strategy != "group_by_length":
        shuffle = args.train_sampling_strategy != "sequential"
        return row_order(lengths, args.seed, shuffle=shuffle)
    together = args.per_device_train_batch_size * args.world_size
    return LengthGroups(lengths, together * args.gradient_accumulation_steps, args.seed)


def save_llava(model: LlavaForConditionalGeneration, processor: LlavaProcessor) -> Save:
    """How a finished stage writes its LLaVA directory."""

    def save(state: dict[str, Tensor], directory: Path) -> None:
        model.save_pretrained(directory, state_dict=state)
        processor.save_pretrained(directory)

    return save
