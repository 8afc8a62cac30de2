"""What a run tells: which parts learn, a bar with the last figures, and how fast it is."""

from __future__ import annotations

import resource
import sys
import time
from collections import defaultdict
from typing import Any, cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from transformers import ProgressCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_pt_utils import get_model_param_count

GIB = 2**30
ADAPTED = "base_model.model."  # what peft puts before names of weights
UNUSED = ".original_module."  # where it keeps a part as it was, beside the one that learns
SHOWN = (
    *("loss", "tokens_per_second", "learned_share", "padding_share"),
    *("memory_gib", "grad_norm"),
)


class Bar(ProgressCallback):
    """transformers' bar with the last figures behind it, instead of a line for each."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: object,
    ) -> None:
        if self.training_bar is not None and logs is not None:
            told = {name: f"{float(logs[name]):.4g}" for name in SHOWN if name in logs}
            if told:
                self.training_bar.set_postfix(told)


class Meter:
    """Tokens of the batches since it was last read, over all processes.

    room: tokens that a batch has places for; of more, or for 0, as many as it has.
    """

    def __init__(self, accelerator: Accelerator, room: int) -> None:
        self._accelerator, self._room = accelerator, room
        self._begin()

    def _begin(self) -> None:
        # Of what lies on the device: it is read later, so that the device need not wait.
        self._learned, self._blank = cast("Tensor | int", 0), cast("Tensor | int", 0)
        self._tokens = self._left = 0
        self._since = time.perf_counter()

    def count(self, batch: dict[str, Any]) -> None:
        """A batch as `mllm.collate.Collator` lays it out."""
        labels, last = batch["labels"], batch["row_lengths"][-1]
        self._tokens += labels.numel()
        self._learned += (batch["shift_labels"] >= 0).sum()
        self._left += max(0, self._room - labels.numel())
        # The blank picture stands last, and is the only row of which nothing is learned.
        self._blank += last * (labels[:, -last:] < 0).all()

    def read(self) -> dict[str, float]:
        """Tokens a second, the share of them that is learned, the share of all places that holds
        no row's token, and the peak of this process's memory, the device's where there is one."""
        device = self._accelerator.device
        counts = [self._tokens, int(self._learned), self._left, int(self._blank)]
        mine = torch.tensor(counts, device=device, dtype=torch.float32)
        found = cast("Tensor", self._accelerator.reduce(mine, "sum")).tolist()
        tokens, learned, left, blank = found
        seconds = time.perf_counter() - self._since
        self._begin()
        return {
            "tokens_per_second": tokens / seconds,
            "learned_share": learned / max(1.0, tokens),
            "padding_share": (left + blank) / max(1.0, tokens + left),
            "memory_gib": peak_memory(device) / GIB,
        }


def peak_memory(device: torch.device) -> int:
    """Bytes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def parameter_table(model: nn.Module) -> str:
    """One line per part of the model: name, tensors, parameters, and how many of them learn."""
    parts = defaultdict[str, list[nn.Parameter]](list)
    for name, parameter in model.named_parameters():
        if UNUSED not in name:
            parts[".".join(name.removeprefix(ADAPTED).split(".")[:2])].append(parameter)
            parts["all"].append(parameter)
    parts["all"] = parts.pop("all")  # it comes last
    lines = [f"{'part':<32}{'tensors':>9}{'parameters':>15}{'learning':>15}"]
    for name, part in parts.items():
        total = sum(map(_values, part))
        learning = sum(_values(parameter) for parameter in part if parameter.requires_grad)
        lines.append(f"{name:<32}{len(part):>9}{total:>15,}{learning:>15,}")
    return "\n".join(lines)


def _values(parameter: nn.Parameter) -> int:
    """As transformers counts them, shards of ZeRO-3 whole; of 4 bits two lie in each byte."""
    held = get_model_param_count(nn.ParameterList([parameter]))
    return 2 * held if parameter.dtype is torch.uint8 else held
