"""The training loop of the base models."""

from __future__ import annotations

import torch

from scripts.miniature.optimise import optimise


def test_optimise_finds_the_minimum() -> None:
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 1, bias=False)
    goal = torch.tensor([[0.5, -0.25, 0.125]])

    optimise(model, lambda: (model.weight - goal).square().sum(), steps=400, rate=0.05)
    torch.testing.assert_close(model.weight.detach(), goal, atol=0.01, rtol=0)
