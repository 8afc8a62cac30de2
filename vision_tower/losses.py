"""Contrastive losses as pure functions of L2-normalised features.

Shape letters: B rows, D embedding, N columns, T rows of a tile. A loss takes a `Match`, which says
how rows find their columns: by `Softmax`, as CLIP, or by `Sigmoid`, as SigLIP.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

Features = Float[Tensor, "B D"]
Scalar = Float[Tensor, ""]

# Rows whose logits are in memory at a time: 128 MiB of fp32 against 32,768 columns. What a loss
# takes then grows with the batch, not with its square.
TILE = 1024


class Softmax(NamedTuple):
    """InfoNCE: a row chooses its column among all. `scale` is the exponentiated temperature."""

    scale: Scalar

    def __call__(self, rows_TD: Tensor, answer_T: Tensor, columns_ND: Tensor) -> Scalar:
        logits_TN = self.scale * rows_TD @ columns_ND.T
        return F.cross_entropy(logits_TN, answer_T, reduction="sum")


class Sigmoid(NamedTuple):
    """SigLIP (Zhai et al. 2023, arXiv 2303.15343, equation 1): each row and column is a question of
    its own, yes or no."""

    scale: Scalar
    bias: Scalar

    def __call__(self, rows_TD: Tensor, answer_T: Tensor, columns_ND: Tensor) -> Scalar:
        logits_TN = self.scale * rows_TD @ columns_ND.T + self.bias
        answer_T1 = answer_T[:, None]
        doubt_TN = logits_TN.scatter(1, answer_T1, -logits_TN.gather(1, answer_T1))
        return F.softplus(doubt_TN).sum()  # -log sigmoid(x) is softplus(-x)


Match = Softmax | Sigmoid


def clip_loss(image_BD: Features, text_BD: Features, match: Match) -> Scalar:
    """Row i of one side belongs to row i of the other: CLIP's symmetric InfoNCE, or SigLIP's."""
    return (_match_loss(image_BD, text_BD, match) + _match_loss(text_BD, image_BD, match)) / 2


def negclip_loss(
    anchor_BD: Features, positive_BD: Features, negative_BD: Features, match: Match
) -> Scalar:
    """NegCLIP: the anchor also sees all B hard negatives; the way back stays plain.

    1/2 [CE(s [A P^T | A N^T], B x 2B) + CE(s P A^T, B x B)], as TripletCLIP's reference code.
    By `Sigmoid`, of which no one has published this: SigLIP's loss, and half of every hard
    negative's, for the anchor alone is asked about it.
    """
    candidates = torch.cat((positive_BD, negative_BD))
    return (
        _match_loss(anchor_BD, candidates, match) + _match_loss(positive_BD, anchor_BD, match)
    ) / 2


class EditFeatures(NamedTuple):
    """Normalised features of edit pairs, each [E, D]."""

    source_image: Tensor
    edited_image: Tensor
    source: Tensor  # captions
    edited: Tensor


def source_anchored_loss(pairs: EditFeatures, match: Match) -> Scalar:
    """NegCLIP's own use of an edit pair: the source picture, and the edited caption as negative."""
    return negclip_loss(pairs.source_image, pairs.source, pairs.edited, match)


def image_anchored_loss(pairs: EditFeatures, match: Match) -> Scalar:
    """TripletCLIP's: (I_s; T_s, T_e) + (I_e; T_e, T_s), CLIP-IN's L_HN^I."""
    return source_anchored_loss(pairs, match) + negclip_loss(
        pairs.edited_image, pairs.edited, pairs.source, match
    )


def symmetric_loss(pairs: EditFeatures, match: Match) -> Scalar:
    """CLIP-IN's L_HN = L_HN^I + L_HN^T: also (T_s; I_s, I_e) + (T_e; I_e, I_s)."""
    return (
        image_anchored_loss(pairs, match)
        + negclip_loss(pairs.source, pairs.source_image, pairs.edited_image, match)
        + negclip_loss(pairs.edited, pairs.edited_image, pairs.source_image, match)
    )


def cosine_distillation(student_BD: Features, teacher_BD: Features) -> Scalar:
    """Mean of 1 - cos (TULIP's choice); the features need not be normalised."""
    return (1 - F.cosine_similarity(student_BD, teacher_BD, dim=-1)).mean()


def mse_distillation(student_BD: Features, teacher_BD: Features) -> Scalar:
    """Mean squared difference of the features as they are."""
    return F.mse_loss(student_BD, teacher_BD)


def _match_loss(rows_BD: Features, columns_ND: Float[Tensor, "N D"], match: Match) -> Scalar:
    """Mean over rows, where row i's right answer is column i."""
    answer_B = torch.arange(len(rows_BD), device=rows_BD.device)
    losses = [
        checkpoint(
            match, rows_TD, answer_T, columns_ND, use_reentrant=False, preserve_rng_state=False
        )
        for rows_TD, answer_T in zip(rows_BD.split(TILE), answer_B.split(TILE), strict=True)
    ]
    return torch.stack(losses).sum() / len(rows_BD)
