"""Proof that a run trains what it was asked to train, and nothing else.

Peers froze towers that were to learn, trained some that were not, and nobody noticed (LLaVA #1647,
#1694, LLaVA-NeXT PR #510). Here every tensor is fingerprinted before the first step and compared
after the steps that follow.
"""

from __future__ import annotations

from typing import cast

import torch
from accelerate.utils import reduce
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

# bf16 weights can stay put for some steps at a small learning rate: a step below half a unit in
# the last place is only seen in the optimizer's fp32 copy.
GRACE_STEPS = 50
_WORDS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class LearningCheck(TrainerCallback):
    """Raises RuntimeError if a frozen tensor changed, or if a part that should learn did not.

    A part is a value of `parts`; it should learn if any of its parameters requires a gradient.
    The check ends with the first step after which every such part has moved, normally the first
    step whose learning rate is above zero.
    """

    def __init__(self, parts: dict[str, nn.Module]) -> None:
        self.parts = parts
        self._before: dict[str, Tensor] = {}
        self._waiting: set[str] = set()
        self._steps = 0

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **_: object,
    ) -> None:
        self._before = {name: _fingerprints(part) for name, part in self.parts.items()}
        self._waiting = {
            name
            for name, part in self.parts.items()
            if any(parameter.requires_grad for parameter in part.parameters())
        }

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **_: object,
    ) -> None:
        if not self._waiting:
            return
        self._steps += 1
        for name, part in self.parts.items():
            # Under ZeRO-3 a process sees its own shards only: what moved anywhere has moved.
            moved_here = (_fingerprints(part) != self._before[name]).int()
            changed = cast("Tensor", reduce(moved_here, "sum")).bool().cpu()
            learning = torch.tensor([p.requires_grad for p in part.parameters()], dtype=torch.bool)
            if (changed & ~learning).any():
                frozen = [key for key, _ in part.named_parameters()]
                first = frozen[int((changed & ~learning).nonzero()[0])]
                raise RuntimeError(
                    f"{name}.{first} is frozen but changed at step {state.global_step}: something "
                    "else writes to it. Stopped before the weights are worth nothing."
                )
            if (changed & learning).any():
                self._waiting.discard(name)
        if self._waiting and self._steps >= GRACE_STEPS:
            raise RuntimeError(
                f"{', '.join(sorted(self._waiting))} should learn but did not move in "
                f"{GRACE_STEPS} steps: raise the learning rate, or shorten the warm-up."
            )
        if not self._waiting:
            self._before.clear()


@torch.no_grad()
def _fingerprints(part: nn.Module) -> Tensor:
    """One integer per parameter: the sum of its bit patterns, which nearly any change changes."""
    sums = []
    for parameter in part.parameters():
        tensor = parameter.data
        if is_deepspeed_zero3_enabled():
            tensor = parameter.ds_tensor  # pyright: ignore[reportAttributeAccessIssue]
        word = _WORDS[tensor.element_size()]
        sums.append(tensor.detach().contiguous().view(word).sum(dtype=torch.int64))
    return torch.stack(sums)
