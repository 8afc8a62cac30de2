"""GradCache (Gao et al. 2021, arXiv 2101.06983): the gradients of one big contrastive batch, in the
memory of a small one but for the pictures themselves.

A contrastive loss needs the features of all rows at once, but of a picture nothing else. So all
micro-batches are encoded without gradient, the loss of all features gives the gradient towards
each, and every micro-batch is then encoded again, this time to carry its features' gradients on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Batch = Mapping[str, Tensor]
Features = dict[str, Tensor]


@dataclass(frozen=True)
class Share:
    """A micro-batch's part in a step. `losses` are those of all rows, without gradient;
    `gradients` go to its own features; `random_state` lets dropout repeat itself."""

    losses: dict[str, Tensor]
    gradients: Features
    random_state: list[Tensor]

    def loss(self, features: Features) -> Tensor:
        """The mean of this over all micro-batches has the value and gradient of the whole loss."""
        parts = [(features[name] * g).sum() for name, g in self.gradients.items()]
        share = torch.stack(parts).sum()
        return self.losses["loss"] + share - share.detach()


def shares(
    encode: Callable[..., Features],
    losses: Callable[[Features], dict[str, Tensor]],
    batches: Sequence[Batch],
) -> list[Share]:
    """Encode all `batches`, take the losses of all their rows together, and share them out.

    `encode(**batch)` gives features by name, and scalars, the same for all batches;
    `losses(features)` gives the total as "loss".
    """
    states, told = [], []
    with torch.no_grad():
        for batch in batches:
            states.append(random_state())
            told.append(encode(**batch))
    scalars = {name for name, value in told[0].items() if value.ndim == 0}
    whole = {
        name: (value if name in scalars else torch.cat([one[name] for one in told]))
        .detach()
        .requires_grad_()
        for name, value in told[0].items()
    }
    result = losses(whole)
    towards = torch.autograd.grad(result["loss"], list(whole.values()), materialize_grads=True)
    told_losses = {name: loss.detach() for name, loss in result.items()}
    gradients = {
        name: (gradient,) * len(batches)
        if name in scalars
        else (gradient * len(batches)).split([len(one[name]) for one in told])
        for name, gradient in zip(whole, towards, strict=True)
    }
    return [
        Share(told_losses, {name: parts[i] for name, parts in gradients.items()}, state)
        for i, state in enumerate(states)
    ]


def random_state() -> list[Tensor]:
    """Of the CPU, and of this process's GPU if it has one."""
    cuda = [torch.cuda.get_rng_state()] if torch.cuda.is_initialized() else []
    return [torch.get_rng_state(), *cuda]


def set_random_state(state: list[Tensor]) -> None:
    torch.set_rng_state(state[0])
    for cuda in state[1:]:
        torch.cuda.set_rng_state(cuda)
