"""Attention of rows that stand end to end in one sequence, each to itself alone.

A mask of blocks would do, and PyTorch would go through all of its square. Row by row, its causal
kernels do no more than the rows need, on any device. flash-attention does the same in one call.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface, PreTrainedModel
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
    softcap: float | None = None,
    **settings: Any,
) -> tuple[Float[Tensor, "1 T H D"], None]:
    """transformers' interface of attention.

    Args:
        module: whose attention it is.
        query_BHTD, key_BKTD, value_BKTD: of one sequence; K heads serve H.
        attention_mask: none, for the rows say it all.
        row_lengths: of the rows in turn; they sum up to T.
        sliding_window: tokens, itself included, that a token sees.
        softcap: of the scores (Gemma 2), which PyTorch's kernels do not know.
        settings: what `sdpa_attention_forward` takes.
    """
    lengths = list(row_lengths)
    attend = sdpa_attention_forward
    if softcap is not None:
        attend = partial(_capped_attention, softcap=softcap)
    parts = [states.split(lengths, dim=2) for states in (query_BHTD, key_BKTD, value_BKTD)]
    told = [
        attend(module, query, key, value, _window(query, sliding_window), **settings)[0]
        for query, key, value in zip(*parts, strict=True)
    ]
    return torch.cat(told, dim=1), None


def _capped_attention(
    module: nn.Module,
    query_BHTD: Tensor,
    key_BKTD: Tensor,
    value_BKTD: Tensor,
    seen_TT: Tensor | None,
    *,
    softcap: float,
    scaling: float,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, None]:
    """Written out: softmax(cap tanh(q k / cap)) v."""
    groups = query_BHTD.shape[1] // key_BKTD.shape[1]
    key_BHTD, value_BHTD = (
        part.repeat_interleave(groups, dim=1) for part in (key_BKTD, value_BKTD)
    )
    scores_BHTT = scaling * query_BHTD @ key_BHTD.transpose(2, 3)
    scores_BHTT = softcap * torch.tanh(scores_BHTT / softcap)
    if seen_TT is None:
        seen_TT = _causal(query_BHTD)
    weights_BHTT = scores_BHTT.masked_fill(~seen_TT, float("-inf")).softmax(-1, torch.float32)
    weights_BHTT = F.dropout(weights_BHTT.to(query_BHTD.dtype), dropout, module.training)
    return (weights_BHTT @ value_BHTD).transpose(1, 2), None


def _window(query_BHTD: Tensor, width: int | None) -> Tensor | None:
    """[T, T], true where a token sees another; None where the window holds the whole row."""
    tokens = query_BHTD.shape[2]
    if width is None or tokens <= width:
        return None
    return _causal(query_BHTD).triu(1 - width)


def _causal(query_BHTD: Tensor) -> Tensor:
    tokens = query_BHTD.shape[2]
    return torch.ones(tokens, tokens, dtype=torch.bool, device=query_BHTD.device).tril()


AttentionInterface.register(ROWS, row_attention)


@torch.inference_mode()
def require_rows_apart(text_model: PreTrainedModel, name: str) -> None:
    """Attention is all that is told of rows: what else a language model hands on from token to
    token (a convolution, a state), it would hand on from row to row.

    Raises:
        ValueError: a row behind another has other logits than alone.
    """
    own = cast("str", text_model.config._attn_implementation)
    token_BL = torch.arange(8)[None]
    position_BL = torch.tensor([[0, 1, 2, 0, 1, 2, 3, 4]])
    try:
        text_model.set_attn_implementation(ROWS)
        both, alone = (
            text_model(input_ids=tokens, position_ids=at, row_lengths=rows, use_cache=False).logits
            for tokens, at, rows in (
                (token_BL, position_BL, [3, 5]),
                (token_BL[:, 3:], position_BL[:, 3:], [5]),
            )
        )
        text_model.set_attn_implementation(own)
        difference = (both[:, 3:] - alone).abs().max() / alone.abs().max()
        apart = difference < (1e-5 if alone.dtype is torch.float32 else 3e-2)
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"the language model {name} cannot be trained on rows that stand end to end "
            f"({type(error).__name__}: {error}): choose a decoder of attention alone."
        ) from error
    if not apart:
        raise ValueError(
            f"the language model {name} hands more from token to token than attention does: rows "
            "end to end would see each other. Choose a decoder of attention alone."
        )
