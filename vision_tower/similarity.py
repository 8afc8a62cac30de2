"""How an edit pair's pictures and captions changed, as figures that edit data sets are made by.

Tensors are named by their axes: B pairs, D features, C channels, H and W the picture's sides.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

WINDOW = 7  # scikit-image's, and so UltraEdit's; Wang et al. weight eleven by a Gaussian


def edit_similarities(
    source_image_BD: Float[Tensor, "B D"],
    edited_image_BD: Float[Tensor, "B D"],
    source_text_BD: Float[Tensor, "B D"],
    edited_text_BD: Float[Tensor, "B D"],
) -> dict[str, Float[Tensor, " B"]]:
    """The four cosines of InstructPix2Pix (Brooks et al. 2023), by UltraEdit's names.

    Features are of unit length. Where nothing changed there is no direction, and its figure is 0.
    """
    image_change_BD = edited_image_BD - source_image_BD
    text_change_BD = edited_text_BD - source_text_BD
    return {
        "clip_sim_source": F.cosine_similarity(source_image_BD, source_text_BD),
        "clip_sim_target": F.cosine_similarity(edited_image_BD, edited_text_BD),
        "clip_sim_dir": F.cosine_similarity(image_change_BD, text_change_BD),
        "clip_sim_image": F.cosine_similarity(source_image_BD, edited_image_BD),
    }


def structural_similarity(
    source_CHW: Float[Tensor, "C H W"], edited_CHW: Float[Tensor, "C H W"]
) -> float:
    """SSIM (Wang et al. 2004) of two pictures with values from 0 to 1: the mean over channels and
    over all square windows that lie inside, with sample covariances, as scikit-image has it.

    Raises ValueError for pictures of two sizes, or smaller than a window.
    """
    if source_CHW.shape != edited_CHW.shape or min(source_CHW.shape[1:]) < WINDOW:
        raise ValueError(
            f"pictures of {tuple(source_CHW.shape)} and {tuple(edited_CHW.shape)} have no SSIM: "
            f"they must be of one size, at least {WINDOW} a side."
        )

    def mean(value_CHW: Tensor) -> Tensor:
        return F.avg_pool2d(value_CHW, WINDOW, stride=1)

    x, y = source_CHW.double(), edited_CHW.double()  # differences of nearly equal squares
    unbiased = WINDOW**2 / (WINDOW**2 - 1)
    mean_x, mean_y = mean(x), mean(y)
    variance_x = unbiased * (mean(x * x) - mean_x**2)
    variance_y = unbiased * (mean(y * y) - mean_y**2)
    covariance = unbiased * (mean(x * y) - mean_x * mean_y)
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return float((luminance * structure).mean())
