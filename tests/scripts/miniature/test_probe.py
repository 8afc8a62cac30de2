"""The linear probe: labels belong to their objects, and its accuracy is one on held-out data."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from scripts.miniature.probe import draw, fit_and_score, object_features
from scripts.miniature.world import COLOURS, SHAPES


class PlaceModel:
    """A tower whose patch features are the patch's number on a 6 x 6 grid, whatever it sees."""

    def __call__(self, pixels: torch.Tensor, output_hidden_states: bool) -> SimpleNamespace:
        patch_BLW = torch.arange(36.0).expand(len(pixels), 36)[..., None]
        class_token = torch.full((len(pixels), 1, 1), -1000.0)
        hidden = torch.cat([class_token, patch_BLW], dim=1)
        return SimpleNamespace(hidden_states=[hidden + 1e6, hidden, hidden - 1e6])


def processor(pictures: list, return_tensors: str) -> SimpleNamespace:
    return SimpleNamespace(pixel_values=torch.zeros(len(pictures), 3, 4, 4))


def test_features_are_those_of_the_objects_cell() -> None:
    """Cell (row, column) of 3 x 3 covers patches 2 row, 2 row + 1 of a 6 x 6 grid; by hand."""
    scenes, pictures = draw(20, held_out=False)
    features, labels = object_features(PlaceModel(), processor, scenes, pictures)  # type: ignore[arg-type]
    things = [thing for scene in scenes for thing in scene.things]
    expected = [12 * (t.place // 3) + 2 * (t.place % 3) + 3.5 for t in things]
    assert features[:, 0].tolist() == pytest.approx(expected)
    assert [COLOURS[i] for i in labels["colour"]] == [thing.colour for thing in things]
    assert [SHAPES[i] for i in labels["shape"]] == [thing.shape for thing in things]


def test_the_two_sides_are_drawn_apart() -> None:
    train, test = draw(30, held_out=False)[0], draw(10, held_out=True)[0]
    assert not any(scene.held_out for scene in train)
    assert all(scene.held_out for scene in test)


def test_what_is_linear_is_read_and_noise_is_not() -> None:
    generator = torch.Generator().manual_seed(0)

    def data(number: int) -> tuple[torch.Tensor, torch.Tensor]:
        label = torch.randint(3, (number,), generator=generator)
        noise = torch.randn(number, 8, generator=generator)
        noise[:, :3] += 6 * torch.eye(3)[label]
        return noise, label

    train, test = data(300), data(300)
    assert fit_and_score(train, test) > 0.98
    shuffled = test[1][torch.randperm(300, generator=generator)]
    assert fit_and_score(train, (test[0], shuffled)) == pytest.approx(1 / 3, abs=0.1)
