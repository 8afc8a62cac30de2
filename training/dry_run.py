"""What a stage would need on each device, told without weights and without a GPU.

Models are on the meta device, data is opened and one micro-batch collated. Then a step is simulated
on tensors without data (torch's FakeTensorMode), and what it holds is added up. torch's own
MemTracker would do so too, but it cannot watch parameters that do not learn.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from training.arguments import TowerArguments
from training.progress import parameter_table

logger = logging.getLogger(__name__)

Loss = Callable[[dict[str, Tensor]], Tensor]


@dataclass(frozen=True)
class Needs:
    """Bytes of one device."""

    weights: int
    gradients: int
    optimizer: int
    activations: int  # at their peak, with what the backward pass needs for a moment

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.activations


def dry_run(
    args: TowerArguments, model: Any, rows: Any, order: Iterable, collate: Any, loss: Loss
) -> None:
    """Log parameters, a micro-batch and the memory of each of `args.dry_run` devices.

    Args:
        model: of meta parameters.
        rows, order, collate: as the Trainer takes them.
        loss: of a micro-batch that `model` is called with.
    """
    logger.info("Parameters:\n%s", parameter_table(model))
    keys = islice(order, args.per_device_train_batch_size)
    batch = collate([rows[key] for key in keys])
    told = {name: value for name, value in batch.items() if isinstance(value, Tensor)}
    shapes = ", ".join(f"{name} {list(value.shape)}" for name, value in told.items())
    logger.info("A micro-batch: %s.", shapes)
    needs = estimate(args, model, told, loss)
    parts = ", ".join(f"{name} {size / 2**30:.1f}" for name, size in vars(needs).items())
    logger.info(
        "Each of %d devices needs about %.1f GiB (%s), beside what the libraries take.",
        *(args.dry_run, needs.total / 2**30, parts),
    )


def estimate(args: TowerArguments, model: Any, batch: Mapping[str, Tensor], loss: Loss) -> Needs:
    """What training `model`, of meta parameters, on such micro-batches takes on each device.

    By DeepSpeed, bf16 weights and gradients and 12 bytes a learning parameter for AdamW and its
    fp32 copy, in shards by the ZeRO stage (Rajbhandari et al. 2020, section 3). Without, fp32
    weights and gradients and 8 bytes for AdamW.
    """
    total = sum(parameter.numel() for parameter in model.parameters())
    learning = sum(p.numel() for p in model.parameters() if p.requires_grad)
    stage = zero_stage(args)
    value = 2 if args.bf16 and args.deepspeed else 4
    sharded = {part: args.dry_run if stage >= least else 1 for part, least in ZERO.items()}
    return Needs(
        weights=value * total // sharded["weights"],
        gradients=value * learning // sharded["gradients"],
        optimizer=(12 if value == 2 else 8) * learning // sharded["optimizer"],
        activations=activations(args, model, batch, loss),
    )


ZERO = {"optimizer": 1, "gradients": 2, "weights": 3}  # the ZeRO stage that shards each


def zero_stage(args: TowerArguments) -> int:
    """0 without DeepSpeed."""
    if not args.deepspeed:
        return 0
    config: Any = args.hf_deepspeed_config
    return config.get_value("zero_optimization.stage")


def activations(args: TowerArguments, model: Any, batch: Mapping[str, Tensor], loss: Loss) -> int:
    """Bytes at the peak of a micro-batch's forward and backward pass, weights and their gradients
    left out."""
    dtype = torch.bfloat16 if args.bf16 else torch.float32
    if args.activation_checkpointing:
        model.activation_checkpointing_enable()
    made = simulated(model, batch, loss, dtype=dtype)
    return made.peak + made.batch * args.gradient_accumulation_steps


def simulated(
    model: nn.Module,
    batch: Mapping[str, Tensor],
    loss: Loss,
    *,
    dtype: torch.dtype | None = None,
    autocast: bool = False,
) -> LiveBytes:
    """What a micro-batch's forward and backward pass makes, on tensors without data.

    Args:
        model: its parameters lose their data for good.
        dtype: of the parameters, buffers and inputs that are floats; None: as they are.
        autocast: to bf16, of the forward pass.
    """
    made, known = LiveBytes(), dict[int, nn.Parameter]()
    with FakeTensorMode():
        for module in model.modules():
            _without_data(module, dtype, made, known)
        inputs = {name: _like(value, dtype) for name, value in batch.items()}
        made.batch = sum(value.untyped_storage().nbytes() for value in inputs.values())
        with made:
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                found = loss(inputs)
            found.backward()
    return made


class LiveBytes(TorchDispatchMode):
    """`peak`: the most that tensors made under it held at one time. Gradients of parameters are
    counted apart: `with_gradients` is the most that both held together. `batch`: what the inputs
    hold, which nothing else counts."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = self.gradients = self.with_gradients = self.batch = 0
        self._known = WeakIdKeyDictionary()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = {id(value.untyped_storage()) for value in _tensors((args, kwargs))}
        made = func(*args, **(kwargs or {}))
        for value in _tensors(made):
            storage = value.untyped_storage()
            if storage not in self._known and id(storage) not in before:  # no view, not in place
                self._known[storage] = True
                self.now += storage.nbytes()
                weakref.finalize(storage, self._freed, storage.nbytes())
        self._look()
        return made

    def count_gradient(self, parameter: Tensor) -> None:
        """And drop it."""
        size = 0 if parameter.grad is None else parameter.grad.untyped_storage().nbytes()
        parameter.grad = None
        self.gradients += size
        self._look()

    def _look(self) -> None:
        self.peak = max(self.peak, self.now)
        self.with_gradients = max(self.with_gradients, self.now + self.gradients)

    def _freed(self, size: int) -> None:
        self.now -= size


def _tensors(tree: Any) -> list[Tensor]:
    return [value for value in tree_leaves(tree) if isinstance(value, Tensor)]


def _without_data(
    module: nn.Module,
    dtype: torch.dtype | None,
    made: LiveBytes,
    known: dict[int, nn.Parameter],
) -> None:
    """`known`: what was put in the place of a parameter, for those that several modules share."""
    for name, parameter in module._parameters.items():
        if parameter is not None and id(parameter) not in known:
            fake = nn.Parameter(_like(parameter, dtype), parameter.requires_grad)
            if fake.requires_grad:
                fake.register_post_accumulate_grad_hook(made.count_gradient)
            known[id(parameter)] = known[id(fake)] = fake
        if parameter is not None:
            module._parameters[name] = known[id(parameter)]
    for name, buffer in module._buffers.items():
        if buffer is not None:
            module._buffers[name] = _like(buffer, dtype)


def _like(value: Tensor, dtype: torch.dtype | None) -> Tensor:
    """On the CPU, whose fused attention keeps as much as a GPU's."""
    of_its_own = dtype is None or not value.is_floating_point()
    return torch.empty(value.shape, dtype=value.dtype if of_its_own else dtype)
