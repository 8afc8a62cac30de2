"""The text encoders of CLIP and SigLIP written anew, to hold the real ones to."""

from __future__ import annotations

import math

import torch
from torch import nn


def quick_gelu(x):
    return x * torch.sigmoid(1.702 * x)


def tanh_gelu(x):
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def turned(y, base):
    """Adjacent pairs of a head as complex numbers, turned by position * base^(-2 pair / size)."""
    length, size = y.shape
    speed = torch.tensor([base ** (-2 * pair / size) for pair in range(size // 2)])
    turn = torch.polar(torch.ones(length, size // 2), torch.arange(length)[:, None] * speed)
    return torch.view_as_real(torch.complex(y[:, 0::2], y[:, 1::2]) * turn).reshape(length, size)


def naive_encode(
    state, tokens, heads, base=None, causal=True, activation=quick_gelu, position_LW=None
):
    """One caption, written anew: complex rotation, one head and one position after another. Without
    `base` nothing turns; `position_LW` is added to the words."""
    x = state["token_embedding.weight"][tokens]
    length, width = x.shape
    size = width // heads
    if position_LW is not None:
        x = x + position_LW[:length]
    layer = 0
    while f"transformer.resblocks.{layer}.ln_1.weight" in state:
        part = {
            name.split(f"resblocks.{layer}.")[1]: value
            for name, value in state.items()
            if f"resblocks.{layer}." in name
        }
        normed = nn.functional.layer_norm(x, (width,), part["ln_1.weight"], part["ln_1.bias"])
        qkv = normed @ part["attn.in_proj_weight"].T + part["attn.in_proj_bias"]
        mixed = torch.zeros(length, width)
        for head in range(heads):
            q, k, v = (qkv[:, i * width + head * size :][:, :size] for i in range(3))
            if base is not None:
                q, k = turned(q, base), turned(k, base)
            for place in range(length):
                seen = place + 1 if causal else length
                weight = ((k[:seen] @ q[place]) / math.sqrt(size)).softmax(0)
                mixed[place, head * size : (head + 1) * size] = weight @ v[:seen]
        x = x + mixed @ part["attn.out_proj.weight"].T + part["attn.out_proj.bias"]
        normed = nn.functional.layer_norm(x, (width,), part["ln_2.weight"], part["ln_2.bias"])
        inner = normed @ part["mlp.c_fc.weight"].T + part["mlp.c_fc.bias"]
        x = x + activation(inner) @ part["mlp.c_proj.weight"].T + part["mlp.c_proj.bias"]
        layer += 1
    x = nn.functional.layer_norm(x, (width,), state["ln_final.weight"], state["ln_final.bias"])
    if causal:
        return x[tokens.argmax()] @ state["text_projection"]
    return x[-1] @ state["text_projection.weight"].T + state["text_projection.bias"]
