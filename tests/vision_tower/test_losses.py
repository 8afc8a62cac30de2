import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.loss import SigLipLoss
from torch.nn import functional as F

from vision_tower import losses
from vision_tower.losses import (
    EditFeatures,
    Sigmoid,
    Softmax,
    clip_loss,
    cosine_distillation,
    image_anchored_loss,
    mse_distillation,
    negclip_loss,
    source_anchored_loss,
    symmetric_loss,
)

ONE = Softmax(torch.tensor(1.0))
FIVE = Softmax(torch.tensor(5.0))
SIGLIP = Sigmoid(torch.tensor(9.0), torch.tensor(-4.0))


def unit(seed, rows=5, size=7):
    return F.normalize(
        torch.randn(rows, size, generator=torch.Generator().manual_seed(seed)), dim=1
    )


def naive_negclip(anchor, positive, negative, scale):
    """Written anew from the equation, one logarithm at a time."""
    rows, total = len(anchor), 0.0
    for i in range(rows):
        near = [scale * float(anchor[i] @ positive[j]) for j in range(rows)]
        far = [scale * float(anchor[i] @ negative[j]) for j in range(rows)]
        back = [scale * float(positive[i] @ anchor[j]) for j in range(rows)]
        total -= near[i] - math.log(sum(map(math.exp, near + far)))
        total -= back[i] - math.log(sum(map(math.exp, back)))
    return total / (2 * rows)


def test_clip_loss_of_two_orthogonal_pairs():
    eye = torch.eye(2)
    expected = -math.log(math.e / (math.e + 1))  # each row: e^1 against e^0
    assert clip_loss(eye, eye, ONE).item() == pytest.approx(expected, abs=1e-6)
    assert clip_loss(eye, eye.flip(0), ONE).item() == pytest.approx(expected + 1, abs=1e-6)


def test_negclip_of_two_orthogonal_pairs():
    eye = torch.eye(2)
    # Forward, anchor 0 sees positives (1, 0), negatives (0, 1): e / (2 e + 2). Back: e / (e + 1).
    forward, back = math.log(2 * math.e + 2) - 1, math.log(math.e + 1) - 1
    told = negclip_loss(eye, eye, eye.flip(0), ONE)
    assert told.item() == pytest.approx((forward + back) / 2, abs=1e-6)


def test_negclip_is_the_equation():
    anchor, positive, negative = unit(0), unit(1), unit(2)
    told = negclip_loss(anchor, positive, negative, Softmax(torch.tensor(9.0)))
    assert told.item() == pytest.approx(naive_negclip(anchor, positive, negative, 9.0), abs=1e-5)


@pytest.mark.parametrize(
    ("loss", "terms"), [(source_anchored_loss, 1), (image_anchored_loss, 2), (symmetric_loss, 4)]
)
def test_losses_of_edit_pairs_are_the_ladder_of_clip_ins_figure(loss, terms):
    """NegCLIP has the first of the four terms, TripletCLIP the two with an image as anchor."""
    source_image, edited_image, source, edited = pairs = EditFeatures(*map(unit, range(4)))
    ladder = [
        (source_image, source, edited),
        (edited_image, edited, source),
        (source, source_image, edited_image),
        (edited, edited_image, source_image),
    ]
    expected = sum(naive_negclip(*term, 5.0) for term in ladder[:terms])
    assert loss(pairs, FIVE).item() == pytest.approx(expected, abs=1e-5)


def naive_sigmoid(rows, columns, answers, scale, bias):
    """SigLIP's equation 1, one question at a time; -1 where the column is not the row's."""
    total = 0.0
    for i, j in itertools.product(range(len(rows)), range(len(columns))):
        z = 1 if answers[i] == j else -1
        total += math.log(1 + math.exp(z * -(scale * float(rows[i] @ columns[j]) + bias)))
    return total / len(rows)


def test_sigmoid_of_two_orthogonal_pairs():
    eye, match = torch.eye(2), Sigmoid(torch.tensor(2.0), torch.tensor(-1.0))
    # Each row: the right column's logit is 2 - 1, the wrong one's -1.
    expected = math.log(1 + math.exp(-1)) + math.log(1 + math.exp(-1))
    assert clip_loss(eye, eye, match).item() == pytest.approx(expected, abs=1e-6)
    expected = math.log(1 + math.exp(1)) + math.log(1 + math.exp(1))
    assert clip_loss(eye, eye.flip(0), match).item() == pytest.approx(expected, abs=1e-6)


def test_sigmoid_is_open_clips():
    image, text = unit(0), unit(1)
    expected = SigLipLoss()(image, text, SIGLIP.scale, SIGLIP.bias)
    torch.testing.assert_close(clip_loss(image, text, SIGLIP), expected)


def test_by_sigmoid_hard_negatives_are_columns_that_are_nobodys():
    anchor, positive, negative = unit(0), unit(1), unit(2)
    told = negclip_loss(anchor, positive, negative, SIGLIP).item()
    forward = naive_sigmoid(anchor, torch.cat((positive, negative)), range(5), 9.0, -4.0)
    back = naive_sigmoid(positive, anchor, range(5), 9.0, -4.0)
    assert told == pytest.approx((forward + back) / 2, abs=1e-5)


@pytest.mark.parametrize("kind", [Softmax, Sigmoid])
def test_a_loss_in_tiles_has_the_value_and_gradients_of_the_whole(kind, monkeypatch):
    def value_and_gradients():
        features = [unit(seed, rows=11).requires_grad_() for seed in range(3)]
        scalars = [torch.tensor(20.0, requires_grad=True), torch.tensor(-3.0, requires_grad=True)]
        match = kind(*scalars[: len(kind._fields)])
        loss = negclip_loss(*features, match)
        return loss, *torch.autograd.grad(loss, [*features, *match])

    whole = value_and_gradients()
    monkeypatch.setattr(losses, "TILE", 4)  # 4, 4 and 3 rows
    for tiled, expected in zip(value_and_gradients(), whole, strict=True):
        torch.testing.assert_close(tiled, expected, rtol=1e-5, atol=1e-7)


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 10_000),
    match=st.floats(0.5, 50).flatmap(
        lambda scale: st.sampled_from(
            [Softmax(torch.tensor(scale)), Sigmoid(torch.tensor(scale), torch.tensor(-scale / 2))]
        )
    ),
)
def test_symmetries(seed, match):
    pairs = EditFeatures(*(unit(seed + i) for i in range(4)))
    source_image, edited_image, source, edited = pairs
    order = torch.randperm(5)
    told = symmetric_loss(pairs, match)
    back = symmetric_loss(EditFeatures(edited_image, source_image, edited, source), match)
    modalities = symmetric_loss(EditFeatures(source, edited, source_image, edited_image), match)
    shuffled = symmetric_loss(EditFeatures(*(part[order] for part in pairs)), match)
    for other in (back, modalities, shuffled):
        torch.testing.assert_close(told, other, rtol=1e-4, atol=1e-5)
    assert negclip_loss(source_image, source, edited, match) > clip_loss(
        source_image, source, match
    )


def test_distillation_by_hand():
    student, teacher = (
        torch.tensor([[3.0, 0.0], [0.0, 2.0]]),
        torch.tensor([[1.0, 0.0], [1.0, 0.0]]),
    )
    assert cosine_distillation(student, teacher).item() == pytest.approx(0.5)  # angles 0 and 90
    assert mse_distillation(student, teacher).item() == pytest.approx((4 + 0 + 1 + 4) / 4)
