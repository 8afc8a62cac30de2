"""Contrastive losses as pure functions of L2-normalised features.

Shape letters: B rows, D embedding. `scale` is the exponentiated temperature (logit_scale.exp()).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

Features = Float[Tensor, "B D"]
Scalar = Float[Tensor, ""]


def clip_loss(image_BD: Features, text_BD: Features, scale: Scalar) -> Scalar:
    """CLIP's symmetric InfoNCE: row i of one side belongs to row i of the other."""
    logits_BB = scale * image_BD @ text_BD.T
    return (_diagonal_loss(logits_BB) + _diagonal_loss(logits_BB.T)) / 2


def negclip_loss(
    anchor_BD: Features, positive_BD: Features, negative_BD: Features, scale: Scalar
) -> Scalar:
    """NegCLIP: the anchor also sees all B hard negatives; the way back stays plain.

    1/2 [CE(s [A P^T | A N^T], B x 2B) + CE(s P A^T, B x B)], as TripletCLIP's reference code.
    """
    near_BB = scale * anchor_BD @ positive_BD.T
    far_BB = scale * anchor_BD @ negative_BD.T
    return (_diagonal_loss(torch.cat((near_BB, far_BB), dim=1)) + _diagonal_loss(near_BB.T)) / 2


def symmetric_hard_negative_loss(
    source_image_BD: Features,
    edited_image_BD: Features,
    source_caption_BD: Features,
    edited_caption_BD: Features,
    scale: Scalar,
) -> Scalar:
    """CLIP-IN's L_HN: the sum of four NegCLIP terms, two with an image and two with a text anchor.

    Over edit samples: (I_s; T_s, T_e) + (I_e; T_e, T_s) + (T_s; I_s, I_e) + (T_e; I_e, I_s).
    """
    return (
        negclip_loss(source_image_BD, source_caption_BD, edited_caption_BD, scale)
        + negclip_loss(edited_image_BD, edited_caption_BD, source_caption_BD, scale)
        + negclip_loss(source_caption_BD, source_image_BD, edited_image_BD, scale)
        + negclip_loss(edited_caption_BD, edited_image_BD, source_image_BD, scale)
    )


def cosine_distillation(student_BD: Features, teacher_BD: Features) -> Scalar:
    """Mean of 1 - cos (TULIP's choice); the features need not be normalised."""
    return (1 - F.cosine_similarity(student_BD, teacher_BD, dim=-1)).mean()


def mse_distillation(student_BD: Features, teacher_BD: Features) -> Scalar:
    """Mean squared difference of the features as they are."""
    return F.mse_loss(student_BD, teacher_BD)


def _diagonal_loss(logits: Float[Tensor, "B N"]) -> Scalar:
    """Cross-entropy where row i's right answer is column i."""
    return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))
