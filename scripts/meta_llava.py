"""The model that stage 3 or 4 trains, and its longest batch, without weights and without data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, LlavaConfig, LlavaForConditionalGeneration

from mllm.adapters import LAYERS, Lora, llava_of
from mllm.assemble import joined_config
from mllm.directory import require_llava
from mllm.processor import (
    image_token_count,
    require_language_model,
    tower_source,
    vision_config,
)
from mllm.row_attention import ROWS
from training.dry_run import LiveBytes, simulated
from training.finetune import Finetune, learner_of
from training.llava_model import opened_as
from training.pretrain_projector import PretrainProjector, let_projector_learn

Stage = Finetune | PretrainProjector
LEARNED = 1 / 3  # of the text's tokens: a guess. scripts/check_data.py counts those of real rows.
# Below so many values, AdamW of bitsandbytes keeps 32 bits: its `min_8bit_size`.
LEAST_IN_8_BITS = 4096


class Census(NamedTuple):
    """Parameters of a model."""

    total: int
    learning: int
    exact: int  # of those that learn: whose moments 8-bit AdamW keeps in 32 bits
    quantized: int  # of those that do not: held in 4 bits
    widest: int  # the largest single map among them


def config_of(args: Stage, made_of: Sequence[str] | None = None) -> LlavaConfig:
    """Of the LLaVA that is trained. The rows that assembling adds to an LLM's embeddings for new
    tokens, 64 at most, are left out.

    Args:
        args: of the stage.
        made_of: tower and language model, in the place of those of `args`, or of its model.

    Raises ValueError or OSError if a configuration is not there or cannot serve.
    """
    if made_of is None and isinstance(args, PretrainProjector):
        made_of = (args.vision_tower, args.language_model)
    if made_of is not None:
        config = _config_of_parts(*made_of)
    else:
        config = _config_of_model(cast("Finetune", args).model)
    if args.attention in ("eager", "flex_attention"):
        raise ValueError(
            "this plan holds for attention row by row and for flash-attention, which take memory "
            f"linear in the tokens; --attention {args.attention} takes more: leave it at auto."
        )
    if image_token_count(config) >= args.max_length:
        raise ValueError(
            f"--max_length {args.max_length} does not hold one picture of "
            f"{image_token_count(config)} tokens and a word: raise it."
        )
    return config


def _config_of_parts(vision_tower: str, language_model: str) -> LlavaConfig:
    _, selection = tower_source(vision_tower)
    require_language_model(language_model)
    text = AutoConfig.from_pretrained(language_model)
    return joined_config(selection, vision_config(vision_tower), text, 0)


def _config_of_model(model: str) -> LlavaConfig:
    try:
        require_llava(model)
    except ValueError as error:
        raise ValueError(
            f"{error}. Before stage 3 has made it: --made_of <tower> <language model>."
        ) from error
    return LlavaConfig.from_pretrained(model)


def meta_learner(args: Stage, config: LlavaConfig, dtype: torch.dtype) -> nn.Module:
    """What is trained, on the meta device: opened as `dtype`, frozen and adapted as the stage does
    it. In 4 bits it stands as `dtype`; `census` knows which."""
    with torch.device("meta"):
        # Of the class's own: a configuration names its dtype, which the stage overrules.
        model = cast("Any", LlavaForConditionalGeneration)._from_config(
            config, dtype=dtype, attn_implementation={"text_config": ROWS}
        )
        learner = model
        if isinstance(args, Finetune):
            learner = learner_of(args, model)
        else:
            let_projector_learn(args, model)
    # Its check reads the tokens, and there are none.
    model.model.get_placeholder_mask = _all_of_a_picture
    return learner.train()


def _all_of_a_picture(input_ids: Tensor, **_: Tensor) -> Tensor:
    return torch.ones_like(input_ids, dtype=torch.bool).unsqueeze(-1)


def lora_of(args: Stage) -> Lora | None:
    return args.adapters if isinstance(args, Finetune) else None


def census(args: Stage, learner: nn.Module) -> Census:
    lora = lora_of(args)
    layers = llava_of(cast("Any", learner)).get_submodule(LAYERS)
    maps = [
        module.weight.numel()
        for name, module in layers.named_modules()
        if isinstance(module, nn.Linear) and "lora_" not in name
    ]
    held = maps if lora is not None and lora.quantized else []
    learning = [p for p in learner.parameters() if p.requires_grad]
    # transformers asks bitsandbytes for 32 bits of embeddings.
    embeddings = {id(m.weight) for m in learner.modules() if isinstance(m, nn.Embedding)}
    return Census(
        total=sum(p.numel() for p in learner.parameters()),
        learning=sum(p.numel() for p in learning),
        exact=sum(
            p.numel() for p in learning if p.numel() < LEAST_IN_8_BITS or id(p) in embeddings
        ),
        quantized=sum(held),
        widest=max(held, default=0),
    )


def longest_batch(args: Stage, config: LlavaConfig, tokens: int) -> tuple[dict, list[int]]:
    """A micro-batch of `tokens` in rows of max_length, and the rows' lengths. Each has a picture,
    the rest that is no whole row has none; of its text a third is learned.

    A guess: pictures take memory in the tower, which shorter rows with as many would need more of.
    """
    rows, rest = divmod(tokens, args.max_length)
    lengths = [args.max_length] * rows + [rest] * (rest > 0)
    pictures = max(1, rows)
    text = max(0, tokens - pictures * image_token_count(config))
    learned = max(1, round(LEARNED * text))
    side = cast("Any", config.vision_config).image_size
    whole = {name: (1, tokens) for name in ("input_ids", "position_ids", "labels")}
    shapes = {**whole, "logits_to_keep": (learned,), "shift_labels": (1, learned)}
    batch = {
        name: torch.zeros(shape, dtype=torch.long, device="meta") for name, shape in shapes.items()
    }
    return {**batch, "pixel_values": torch.zeros(pictures, 3, side, side, device="meta")}, lengths


def step_bytes(
    args: Stage, config: LlavaConfig, tokens: int, *, bf16: bool, deepspeed: bool, logits: bool
) -> LiveBytes:
    """What one micro-batch makes.

    Args:
        deepspeed: which computes in bf16 alone; without, `bf16` is autocast's.
        logits: of what is learned; else of one position, so that the difference is theirs.
    """
    dtype = opened_as(args, bf16=bf16, deepspeed=deepspeed)
    learner = meta_learner(args, config, dtype)
    pure = torch.bfloat16 if bf16 and deepspeed else None
    if args.activation_checkpointing:
        cast("Any", learner).activation_checkpointing_enable()
    batch, lengths = longest_batch(args, config, tokens)
    if not logits:
        batch["logits_to_keep"] = batch["logits_to_keep"][:1]
        batch["shift_labels"] = batch["shift_labels"][:, :1]

    def loss(told: dict[str, Tensor]) -> Tensor:
        return learner(**told, use_cache=False, row_lengths=lengths).loss

    return simulated(learner, batch, loss, dtype=pure, autocast=bf16 and not deepspeed)


def flops_a_token(args: Stage, config: LlavaConfig) -> float:
    """Of the forward and backward pass of a row of max_length with a picture, tower included. What
    activation checkpointing computes again is left out, as MFU does (PaLM, arXiv 2204.02311,
    appendix B)."""
    learner = meta_learner(args, config, torch.bfloat16).to(torch.bfloat16)
    batch, lengths = longest_batch(args, config, args.max_length)
    batch["pixel_values"] = batch["pixel_values"].to(torch.bfloat16)
    with FlopCounterMode(display=False) as counter:
        learner(**batch, use_cache=False, row_lengths=lengths).loss.backward()
    return counter.get_total_flops() / args.max_length
