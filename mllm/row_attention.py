"""Attention of rows that stand end to end in one sequence, each to itself alone.

A mask of blocks would do, and PyTorch would go through all of its square. Row by row, its causal
kernels do no more than the rows need, on any device. flash-attention does the same in one call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

ROWS = "rows"  # its name among transformers' implementations


def row_attention(
    module: nn.Module,
    query_BHTD: Float[Tensor, "1 H T D"],
    key_BKTD: Float[Tensor, "1 K T D"],
    value_BKTD: Float[Tensor, "1 K T D"],
    attention_mask: None,
    *,
    row_lengths: Sequence[int],
    sliding_window: int | None = None,
    **settings: Any,
) -> tuple[Float[Tensor, "1 T H D"], None]:
    """transformers' interface of attention.

    Args:
        module: whose attention it is.
        query_BHTD, key_BKTD, value_BKTD: of one sequence; K heads serve H.
        attention_mask: none, for the rows say it all.
        row_lengths: of the rows in turn; they sum up to T.
        sliding_window: tokens, itself included, that a token sees.
        settings: what `sdpa_attention_forward` takes.
    """
    lengths = list(row_lengths)
    parts = [states.split(lengths, dim=2) for states in (query_BHTD, key_BKTD, value_BKTD)]
    told = [
        sdpa_attention_forward(
            module, query, key, value, _window(query, sliding_window), **settings
        )[0]
        for query, key, value in zip(*parts, strict=True)
    ]
    return torch.cat(told, dim=1), None


def _window(query_BHTD: Tensor, width: int | None) -> Tensor | None:
    """[T, T], true where a token sees another; None where the window holds the whole row."""
    tokens = query_BHTD.shape[2]
    if width is None or tokens <= width:
        return None
    seen_TT = torch.ones(tokens, tokens, dtype=torch.bool, device=query_BHTD.device)
    return seen_TT.tril().triu(1 - width)


AttentionInterface.register(ROWS, row_attention)
