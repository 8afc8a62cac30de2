import pytest
import torch
from torch import nn
from transformers import TrainerControl, TrainerState

from training.learning_check import GRACE_STEPS, LearningCheck


def start(frozen, learning):
    for parameter in frozen.parameters():
        parameter.requires_grad_(False)
    check = LearningCheck({"tower": frozen, "projector": learning})
    check.on_train_begin(None, TrainerState(), TrainerControl())
    return lambda: check.on_step_end(None, TrainerState(global_step=1), TrainerControl())


def test_all_is_well_when_only_the_learning_part_moves():
    learning = nn.Linear(2, 2)
    step = start(nn.Linear(2, 2), learning)
    for _ in range(GRACE_STEPS + 5):
        learning.bias.data += 1
        step()


def test_a_frozen_tensor_that_moves_is_named():
    frozen = nn.Linear(2, 2)
    step = start(frozen, nn.Linear(2, 2))
    frozen.weight.data[1, 1] = torch.nextafter(frozen.weight.data[1, 1], torch.tensor(9.0))
    with pytest.raises(RuntimeError, match=r"tower\.weight is frozen but changed"):
        step()


def test_a_part_that_never_moves_is_named_after_the_grace_period():
    step = start(nn.Linear(2, 2), nn.Linear(2, 2))
    for _ in range(GRACE_STEPS - 1):
        step()
    with pytest.raises(RuntimeError, match="projector should learn but did not move"):
        step()


def test_a_part_of_frozen_and_learning_tensors_counts_as_learning():
    mixed = nn.Linear(2, 2)
    mixed.weight.requires_grad_(False)
    check = LearningCheck({"tower": mixed})
    check.on_train_begin(None, TrainerState(), TrainerControl())
    mixed.bias.data += 1
    check.on_step_end(None, TrainerState(), TrainerControl())
    mixed.weight.data += 1  # no longer watched: the check ended with the first proof
    check.on_step_end(None, TrainerState(), TrainerControl())
