"""Figures of edit pairs against values by hand and a second way to compute them."""

import numpy as np
import pytest
import torch

from vision_tower.similarity import edit_similarities, structural_similarity


def unit(*rows):
    return torch.nn.functional.normalize(torch.tensor(rows, dtype=torch.float), dim=1)


def test_cosines_by_hand():
    """Pair 0: picture and caption both turn from x to y. Pair 1: only the picture does. Pair 2:
    they turn to opposite sides."""
    found = edit_similarities(
        source_image_BD=unit([1, 0], [1, 0], [1, 0]),
        edited_image_BD=unit([0, 1], [0, 1], [0, 1]),
        source_text_BD=unit([1, 0], [1, 1], [0, 1]),
        edited_text_BD=unit([0, 1], [1, 1], [1, 0]),
    )
    half = 0.5**0.5
    expected = {
        "clip_sim_source": [1, half, 0],
        "clip_sim_target": [1, half, 0],
        "clip_sim_dir": [1, 0, -1],
        "clip_sim_image": [0, 0, 0],
    }
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        torch.testing.assert_close(found[name], torch.tensor(values, dtype=torch.float))


def by_windows(x_CHW, y_CHW):
    """Wang et al.'s formula, one window after the other, by numpy's own covariance."""
    found = []
    for x_HW, y_HW in zip(x_CHW, y_CHW, strict=True):
        for row in range(x_HW.shape[0] - 6):
            for column in range(x_HW.shape[1] - 6):
                x = x_HW[row : row + 7, column : column + 7].ravel()
                y = y_HW[row : row + 7, column : column + 7].ravel()
                (xx, xy), (_, yy) = np.cov(x, y)
                found.append(
                    (2 * x.mean() * y.mean() + 1e-4)
                    * (2 * xy + 9e-4)
                    / ((x.mean() ** 2 + y.mean() ** 2 + 1e-4) * (xx + yy + 9e-4))
                )
    return np.mean(found)


def test_ssim_is_that_of_its_formula():
    x = np.random.default_rng(0).random((3, 9, 12))
    y = np.clip(x + np.random.default_rng(1).normal(0, 0.2, x.shape), 0, 1)
    found = structural_similarity(torch.from_numpy(x), torch.from_numpy(y))
    assert found == pytest.approx(by_windows(x, y), abs=1e-9)
    assert 0.1 < found < 0.9


def test_ssim_of_plain_pictures_by_hand():
    grey, white = torch.full((3, 8, 8), 0.5), torch.ones(3, 8, 8)
    assert structural_similarity(grey, grey) == pytest.approx(1)
    assert structural_similarity(grey, white) == pytest.approx((1 + 1e-4) / (1.25 + 1e-4))


@pytest.mark.parametrize("size", [(3, 8, 9), (3, 6, 6)])
def test_pictures_without_ssim_are_refused(size):
    other = torch.ones(3, 8, 8) if size[1] == 8 else torch.ones(size)
    with pytest.raises(ValueError, match="must be of one size, at least 7"):
        structural_similarity(torch.ones(size), other)
