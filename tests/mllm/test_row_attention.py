"""Against a mask of blocks, written out."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from transformers import Lfm2Config, Lfm2ForCausalLM, LlamaConfig, LlamaForCausalLM

from mllm.row_attention import require_rows_apart, row_attention


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


@pytest.mark.parametrize("width", [None, 2])
def test_scores_may_have_a_soft_cap(width):
    generator = torch.Generator().manual_seed(0)
    query, key, value = (
        5 * torch.randn(1, heads, 7, 8, generator=generator) for heads in (4, 2, 2)
    )
    told, _ = row_attention(
        Attention(2), query, key, value, None,
        row_lengths=[3, 4], sliding_window=width, softcap=2.0, scaling=0.3,
    )  # fmt: skip
    for start, end in ((0, 3), (3, 7)):
        for head in range(4):
            for at in range(start, end):
                first = start if width is None else max(start, at + 1 - width)
                keys, values = (part[0, head // 2, first : at + 1] for part in (key, value))
                scores = 2.0 * torch.tanh(0.3 * keys @ query[0, head, at] / 2.0)
                torch.testing.assert_close(told[0, at, head], scores.softmax(0) @ values)


def test_a_model_that_hands_on_more_than_attention_is_refused():
    shape = {"vocab_size": 16, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    llama = LlamaForCausalLM(LlamaConfig(**shape, **heads)).eval()
    before = llama.config._attn_implementation
    require_rows_apart(llama, "some/llama")
    assert llama.config._attn_implementation == before
    mixed = Lfm2ForCausalLM(Lfm2Config(**shape, **heads, layer_types=["conv", "full_attention"]))
    with pytest.raises(ValueError, match="some/lfm hands more from token to token than attention"):
        require_rows_apart(mixed.eval(), "some/lfm")
