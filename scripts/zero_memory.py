"""Bytes of weights, gradients and optimizer on each GPU, by what DeepSpeed's ZeRO shards and moves.

Rajbhandari et al. 2020 (arXiv 1910.02054), section 3; ZeRO-Offload, arXiv 2101.06840.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from scripts.meta_llava import Census
from training.dry_run import ZERO

# Bytes of a weight in nf4 with double quantisation: 0.5, and 0.127 bits of constants (arXiv
# 2305.14314, section 3).
FOUR_BITS = 0.5 + 0.127 / 8
# Of a weight, by 8-bit AdamW: two moments, and an fp32 constant for each 256 values of both.
MOMENTS_IN_8_BITS = 2 + 2 * 4 / 256
MOST_TOKENS = 1 << 24  # of a micro-batch that is looked for


@dataclass(frozen=True)
class Zero:
    """What a DeepSpeed configuration says; stage 0 is training without DeepSpeed.

    bucket: values that are reduced together. live: values that ZeRO-3 keeps gathered.
    """

    stage: int = 0
    optimizer_on_host: bool = False
    weights_on_host: bool = False
    bucket: int = 0
    live: int = 0

    @property
    def name(self) -> str:
        return f"{self.stage}{' + offload' if self.optimizer_on_host else ''}"

    @property
    def kind(self) -> tuple[int, bool, bool]:
        return self.stage, self.optimizer_on_host, self.weights_on_host


class Share(NamedTuple):
    """Bytes of one GPU, and of the host for it. The last five are its memory."""

    host: float
    weights: float
    gradients: float
    optimizer: float
    buffers: float


def read_zero(deepspeed: str) -> Zero:
    """Of a file, or of its text. Defaults are DeepSpeed's (runtime/zero/config.py, 0.19).

    Raises ValueError that says what is wrong with it, OSError if it cannot be read.
    """
    text = deepspeed
    if not deepspeed.lstrip().startswith("{"):
        if not Path(deepspeed).is_file():
            raise ValueError(
                f"there is no DeepSpeed configuration {deepspeed}: choose one of "
                "training/deepspeed/ with --deepspeed."
            )
        text = Path(deepspeed).read_text(encoding="utf-8")
    try:
        told: dict[str, Any] = json.loads(text).get("zero_optimization", {})
    except (json.JSONDecodeError, AttributeError) as error:
        raise ValueError(
            f"{deepspeed} is no DeepSpeed configuration ({error}): see training/deepspeed/."
        ) from error
    if told.get("stage") not in (1, 2, 3):
        raise ValueError(
            f"{deepspeed} has zero_optimization.stage {told.get('stage')}: this plan knows 1, 2 "
            "and 3, and training without DeepSpeed (--deepspeed '')."
        )
    away = {name: told.get(f"offload_{name}", {}).get("device") for name in ("optimizer", "param")}
    return Zero(
        stage=told["stage"],
        optimizer_on_host=away["optimizer"] not in (None, "none"),
        weights_on_host=away["param"] not in (None, "none"),
        bucket=_number(told, "reduce_bucket_size", 500_000_000),
        live=_number(told, "stage3_max_live_parameters", 1_000_000_000),
    )


def _number(told: dict[str, Any], name: str, default: int) -> int:
    value = told.get(name, default)
    return default if value == "auto" else int(value)


def share_of(
    zero: Zero, found: Census, gpus: int, *, bf16: bool, bf16_base: bool, eight_bits: bool
) -> Share:
    """Bytes of a GPU.

    DeepSpeed: weights and gradients of 2 bytes by `bf16`, else 4; AdamW's two moments and an fp32
    copy, 12 bytes a learning weight (DeepSpeed clones fp32 ones too), with `eight_bits` 6. Without:
    fp32, 4 + 4 + 8; what does not learn has 2 by `bf16_base`.
    """
    value = 2 if bf16 and zero.stage else 4
    of_frozen = value if zero.stage else 2 if bf16_base else 4
    still = found.total - found.learning - found.quantized
    weights = value * found.learning + of_frozen * still + FOUR_BITS * found.quantized
    gradients = float(value * found.learning)
    moments = 8.0 * found.learning
    if eight_bits:
        moments = MOMENTS_IN_8_BITS * (found.learning - found.exact) + 8 * found.exact
    optimizer = moments + (4 * found.learning if zero.stage else 0)
    parts = {part: gpus if zero.stage >= least else 1 for part, least in ZERO.items()}
    weights, gradients, optimizer = (
        weights / parts["weights"],
        gradients / parts["gradients"],
        optimizer / parts["optimizer"],
    )
    host = 0.0
    if zero.optimizer_on_host:  # with gradients in fp32, for the CPU's AdamW
        host += optimizer + 4 * found.learning / gpus
        gradients = optimizer = 0.0
    if zero.weights_on_host:
        host, weights = host + weights, 0.0
    return Share(host, weights, gradients, optimizer, _buffers(zero, found, gpus, value))


def _buffers(zero: Zero, found: Census, gpus: int, value: int) -> float:
    """What communication takes. DistributedDataParallel: a copy of the gradients. ZeRO: two
    buckets, one filled while the other is reduced; ZeRO-3: at most `live` gathered weights."""
    if not zero.stage:
        return 4.0 * found.learning if gpus > 1 else 0.0
    buckets = 2 * min(zero.bucket, found.learning)
    gathered = min(zero.live, found.total - found.quantized) if zero.stage == 3 else 0
    return float(value * (buckets + gathered))


class Curve(NamedTuple):
    """Bytes by the tokens of a micro-batch: lines between measured sizes, and beyond the last."""

    tokens: list[int]
    sizes: list[float]

    def at(self, tokens: int) -> float:
        after = min(max(1, bisect_left(self.tokens, tokens)), len(self.tokens) - 1)
        (x0, x1), (y0, y1) = self.tokens[after - 1 : after + 1], self.sizes[after - 1 : after + 1]
        return y0 + (y1 - y0) * (tokens - x0) / (x1 - x0)


def largest(curve: Callable[[int], float], room: float, least: int) -> int:
    """The most tokens of a micro-batch that `room` bytes hold; 0 where not even `least` do."""
    if curve(least) > room:
        return 0
    return (
        least
        - 1
        + bisect_left(range(least, MOST_TOKENS), True, key=lambda tokens: curve(tokens) > room)
    )
