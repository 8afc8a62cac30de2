"""Against a mask of blocks, written out."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from mllm.row_attention import row_attention


class Attention(nn.Module):
    """What transformers hands on of its own."""

    is_causal = True

    def __init__(self, groups):
        super().__init__()
        self.num_key_value_groups = groups


def by_mask(query, key, value, lengths, width):
    row = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    at = torch.arange(sum(lengths))
    seen = (row[:, None] == row) & (at[:, None] >= at) & (at[:, None] - at < width)
    groups = query.shape[1] // key.shape[1]
    key, value = (states.repeat_interleave(groups, dim=1) for states in (key, value))
    told = functional.scaled_dot_product_attention(query, key, value, attn_mask=seen, scale=0.3)
    return told.transpose(1, 2)


@pytest.mark.parametrize("lengths", [[7], [1, 5, 2], [3, 1, 1, 9]])
@pytest.mark.parametrize("width", [None, 1, 4, 20])
@pytest.mark.parametrize("groups", [1, 2])
def test_rows_see_themselves_and_what_came_before(lengths, width, groups):
    generator = torch.Generator().manual_seed(0)
    tokens = sum(lengths)
    query = torch.randn(1, 4, tokens, 8, generator=generator, requires_grad=True)
    key, value = (
        torch.randn(1, 4 // groups, tokens, 8, generator=generator, requires_grad=True)
        for _ in range(2)
    )
    told, weights = row_attention(
        Attention(groups), query, key, value, None,
        row_lengths=lengths, sliding_window=width, scaling=0.3, dropout=0.0,
    )  # fmt: skip
    expected = by_mask(query, key, value, lengths, width or tokens)
    assert weights is None
    torch.testing.assert_close(told, expected)
    for ours, theirs in zip(
        torch.autograd.grad(told.square().sum(), (query, key, value)),
        torch.autograd.grad(expected.square().sum(), (query, key, value)),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


def test_a_soft_cap_is_refused():
    states = torch.zeros(1, 1, 2, 4)
    with pytest.raises(ValueError, match="does not support `softcap`"):
        row_attention(Attention(1), states, states, states, None, row_lengths=[2], softcap=50.0)
