"""What a recipe of stage 3 or 4 would take on N GPUs of G GiB, by ZeRO stage, before any is rented.

    python scripts/plan.py training/recipes/finetune.yaml --gpus 8 --memory 80
    python scripts/plan.py <recipe> --gpus 8 --memory 80 --batch_tokens 12288    flags of the recipe
    python scripts/plan.py <recipe> --gpus 8 --memory 80 --mfu 0.4 --flops 989e12   and the hours
    python scripts/plan.py <recipe> ... --made_of <tower> <LLM>    before stage 3 has made the model

No weights are read and no GPU is needed: the model stands on the meta device, made of its
configurations, and a step is simulated without data. GiB of each GPU:

    weights, gradients, optimizer   by what ZeRO shards; "host" is what offload moves to the CPU,
                                    for one GPU
    buffers        of communication, and the weights that ZeRO-3 keeps gathered: an upper bound
    activations    at the peak of the longest batch: batch_tokens, or per_device_train_batch_size
                   rows of max_length, with a picture in each of max_length tokens
    logits         what they add to that peak, if a third of the text is learned

Row 0 is without DeepSpeed, * marks the recipe's own. "At most" is the largest micro-batch that
fits. What CUDA and the libraries take, and what the allocator wastes, is not counted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import yaml
from transformers import LlavaConfig
from transformers.training_args import OptimizerNames

from mllm.collate import Collator
from mllm.conversations import ConversationError
from scripts.check_data import read_stage
from scripts.conversation_check import processor_of
from scripts.meta_llava import (
    Census,
    Stage,
    census,
    config_of,
    flops_a_token,
    longest_batch,
    meta_learner,
    step_bytes,
)
from scripts.zero_memory import Curve, Share, Zero, largest, read_zero, share_of
from training.conversation_rows import measure, open_conversations, weighted
from training.dry_run import LiveBytes
from training.finetune import Finetune
from training.llava_model import opened_as
from training.pretrain_projector import PretrainProjector
from training.recipe import as_written

GIB = 2**30
KIT = Path(__file__).parents[1] / "training" / "deepspeed"
# Trainer refuses these where there is no GPU, and starts DeepSpeed where there is.
WITHOUT_GPU = ["--bf16", "False", "--tf32", "False", "--deepspeed", "", "--use_cpu", "True"]
IN_32_BITS = ("adamw_torch", "adamw_torch_fused")
IN_8_BITS = ("adamw_bnb_8bit", "adamw_8bit")


class Recipe(NamedTuple):
    """A recipe, and what of it a machine without a GPU refuses; `zero` is what it names."""

    args: Stage
    config: LlavaConfig
    bf16: bool
    zero: Zero


class Row(NamedTuple):
    """Of one ZeRO stage, bytes of each GPU. `most`: tokens of the largest micro-batch."""

    zero: Zero
    share: Share
    activations: float
    logits: float
    most: int

    @property
    def total(self) -> float:
        return sum(self.share[1:]) + self.activations + self.logits


def read(path: Path, flags: list[str], made_of: Sequence[str] | None = None) -> Recipe:
    """`made_of`: of `config_of`. Raises ValueError or OSError that says what is wrong."""
    args = read_stage(path, [*flags, *WITHOUT_GPU])
    if not isinstance(args, (Finetune, PretrainProjector)):
        raise ValueError(
            f"{path} is a recipe of {type(args).__name__}, a stage of the tower: its script's "
            "--dry_run tells what it would take."
        )
    known = (*IN_32_BITS, *IN_8_BITS)
    if args.optim not in known:
        name = OptimizerNames(args.optim).value
        raise ValueError(f"this plan does not know --optim {name}: it knows {', '.join(known)}.")
    written = as_written(type(args), [str(path), *flags])
    zero = read_zero(str(written.deepspeed)) if written.deepspeed else Zero()
    return Recipe(args, config_of(args, made_of), bool(written.bf16), zero)


def planned(recipe: Recipe, gpus: int, room: float) -> list[Row]:
    """A row for each configuration of the kit, the recipe's own in the place of its like."""
    args = recipe.args
    tokens = _tokens(args)
    sizes = sorted({args.max_length, tokens, 2 * tokens})

    @cache
    def step(size: int, deepspeed: bool, logits: bool = True) -> LiveBytes:
        return step_bytes(
            args, recipe.config, size, bf16=recipe.bf16, deepspeed=deepspeed, logits=logits
        )

    opened = opened_as(args, bf16=recipe.bf16, deepspeed=False)
    found = census(args, meta_learner(args, recipe.config, opened))
    rows = []
    for zero in _zeros(recipe.zero, found):
        share = share_of(
            zero,
            found,
            gpus,
            bf16=recipe.bf16,
            bf16_base=opened.itemsize == 2,
            eight_bits=args.optim in IN_8_BITS,
        )
        pure = bool(zero.stage) and recipe.bf16  # in fp32, a step is the same with DeepSpeed
        curve = Curve(sizes, [_beside(args, step(s, pure), zero, found) for s in sizes])
        bare = _beside(args, step(tokens, pure, logits=False), zero, found)
        most = largest(curve.at, room - sum(share[1:]), args.max_length)
        rows.append(Row(zero, share, bare, curve.at(tokens) - bare, most))
    return rows


def _zeros(own: Zero, found: Census) -> list[Zero]:
    """Without ZeRO-3 of 4 bits: transformers refuses the `device_map` that they come with."""
    kinds = {zero.kind: zero for zero in [Zero(), *map(read_zero, map(str, KIT.glob("*.json")))]}
    if found.quantized and own.stage == 3:
        raise ValueError("ZeRO-3 cannot shard weights of 4 bits: choose ZeRO-2 by --deepspeed.")
    every = sorted({**kinds, own.kind: own}.items())
    return [zero for _, zero in every if not (found.quantized and zero.stage == 3)]


def _beside(args: Stage, made: LiveBytes, zero: Zero, found: Census) -> float:
    """Bytes at a step's peak beside weights, all gradients and optimizer.

    DeepSpeed's gradients, and those of earlier micro-batches, are there from the beginning.
    Otherwise they grow while activations go, and the peak is of both. A map in 4 bits is bf16 for
    the moment that it is used. Trainer fetches the micro-batches of a step together.
    """
    peak = made.peak
    if not zero.stage and args.gradient_accumulation_steps == 1:
        peak = made.with_gradients - made.gradients
    return peak + made.batch * args.gradient_accumulation_steps + 2 * found.widest


def table(rows: list[Row], recipe: Recipe, room: float) -> Iterator[str]:
    names = (*Share._fields[1:], "activations", "logits", "total")
    yield (
        f"{'ZeRO':<15}"
        + "".join(f"{name:>12}" for name in names)
        + (f"{'fits':>6}{'host':>9}{'at most':>25}")
    )
    for row in rows:
        own = "* " if row.zero.kind == recipe.zero.kind else "  "
        sizes = [*row.share[1:], row.activations, row.logits, row.total]
        most = f"{row.most:,} tokens, {row.most // recipe.args.max_length} rows"
        yield (
            f"{own}{row.zero.name:<13}"
            + "".join(f"{size / GIB:>12.2f}" for size in sizes)
            + (
                f"{'yes' if row.total <= room else 'no':>6}{row.share.host / GIB:>9.2f}"
                f"{most if row.most else 'not one row':>25}"
            )
        )


def assumed(recipe: Recipe) -> str:
    """The batch that the table is of. Logits are fp32 in the loss, and so is their gradient."""
    tokens = _tokens(recipe.args)
    batch, lengths = longest_batch(recipe.args, recipe.config, tokens)
    learned = batch["logits_to_keep"].numel()
    size = 8 * learned * cast("Any", recipe.config.text_config).vocab_size
    return (
        f"Of {len(lengths)} rows of {recipe.args.max_length:,} tokens with "
        f"{len(batch['pixel_values'])} pictures, {learned:,} tokens of them learned: "
        f"{size / GIB:.2f} GiB of fp32 logits and their gradient, most of it gone at the peak."
    )


def _tokens(args: Stage) -> int:
    return args.batch_tokens or args.per_device_train_batch_size * args.max_length


def speed(recipe: Recipe, gpus: int, mfu: float, flops: float) -> Iterator[str]:
    """Tokens a second and, where the data is there, the hours."""
    args = recipe.args
    a_token = flops_a_token(args, recipe.config)
    a_second = mfu * flops / a_token
    yield (
        f"{a_token / 1e9:.1f} GFLOP a token; at {100 * mfu:g} % of {flops / 1e12:g} TFLOP/s "
        f"{a_second:,.0f} tokens a second on each GPU."
    )
    try:
        processor, image_tokens = processor_of(args)
        collator = Collator(processor, image_tokens, args.max_length)
        sets, weights = open_conversations(args.conversations, args.image_root)
        found = [measure(rows, collator) for rows in sets]
    except (OSError, ValueError, ConversationError) as error:
        yield f"No hours: the data cannot be counted ({str(error).splitlines()[0]})"
        return
    rows = weighted(found, weights, args.seed)
    lengths = np.concatenate([one.tokens for one in found])[rows]
    tokens = args.num_train_epochs * lengths.sum()
    if args.max_steps > 0:
        a_batch = args.batch_tokens or args.per_device_train_batch_size * lengths.mean()
        tokens = args.max_steps * args.gradient_accumulation_steps * gpus * a_batch
    yield f"{tokens:,.0f} tokens on {gpus} GPUs: {tokens / a_second / gpus / 3600:,.1f} hours."


def main() -> None:
    form = argparse.RawDescriptionHelpFormatter  # flags it does not know are the recipe's
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form, allow_abbrev=False)
    parser.add_argument("recipe", type=Path, help="of stage 3 or 4")
    parser.add_argument("--gpus", type=int, required=True, help="how many")
    parser.add_argument("--memory", type=float, required=True, help="GiB of each")
    parser.add_argument("--mfu", type=float, help="share of --flops that training reaches")
    parser.add_argument("--flops", type=float, default=312e12, help="a second; A100's in bf16")
    parser.add_argument("--made_of", nargs=2, metavar=("TOWER", "LLM"), help="of stage 4's model")
    flags, rest = parser.parse_known_args()
    if flags.gpus < 1 or flags.memory <= 0 or flags.flops <= 0:
        parser.error("--gpus, --memory and --flops must be above 0.")
    if flags.mfu is not None and not 0 < flags.mfu <= 1:
        parser.error(f"--mfu {flags.mfu} is no share: give one above 0, up to 1; 0.4 is common.")
    try:
        recipe = read(flags.recipe, rest, flags.made_of)
        room = flags.memory * GIB
        print("\n".join(table(planned(recipe, flags.gpus, room), recipe, room)))
        print(assumed(recipe))
        if flags.mfu is not None:
            print("\n".join(speed(recipe, flags.gpus, flags.mfu, flags.flops)))
    except (OSError, ValueError, yaml.YAMLError) as error:
        sys.exit(f"plan.py: {error}")


if __name__ == "__main__":
    main()
