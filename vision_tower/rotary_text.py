"""CLIP's or SigLIP's text encoder with rotary positions for learned ones, for long captions.

Parameters keep open_clip's names and shapes: the state dict of the encoder it replaces loads with
`positional_embedding` the only key left over. Rotation as TULIP (arXiv 2410.10034) and CLIP-IN:
base 10000, the full head dimension, adjacent pairs, every layer, in fp32.

Shape letters: B captions, L tokens, D width, H heads, K head dimension, E embedding.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any

import torch
from jaxtyping import Float, Int
from open_clip.transformer import TextTransformer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

LEFT_OVER = {"positional_embedding"}


def rotary_angles(
    length: int, head_dim: int, base: float, device: torch.device
) -> tuple[Float[Tensor, "L K2"], Float[Tensor, "L K2"]]:
    """Cosine and sine of position * base^(-2i/K) for pair i. Computed, not kept in a buffer: a
    model cast to bf16 would carry a bf16 table, which is off by whole positions at length 248."""
    frequency = base ** -(torch.arange(0, head_dim, 2, device=device).double() / head_dim)
    angle_LK = torch.outer(torch.arange(length, device=device).double(), frequency)
    return angle_LK.cos().float(), angle_LK.sin().float()


def ntk_base(base: float, head_dim: int, length: int, longer: int, factor: float) -> float:
    """`base` for texts of `longer` tokens instead of `length`: TULIP's "dynamic NTK scaling", whose
    factor is 8. The fastest pair keeps its speed, the slowest becomes `slower` times as slow. A
    factor of 0 changes nothing; one below raises ValueError."""
    if factor < 0:
        raise ValueError(f"the factor of NTK scaling is 0 (off) or above, not {factor}.")
    slower = factor * longer / length - (factor - 1)
    return base * slower ** (head_dim / (head_dim - 2))


def rotate(
    x: Float[Tensor, "*batch L K"], cos: Float[Tensor, "... K2"], sin: Float[Tensor, "... K2"]
) -> Float[Tensor, "*batch L K"]:
    """Turn each adjacent pair (x[2i], x[2i+1]) by its angle, in fp32; returns x's dtype. The angles
    are one row per position, or whatever else broadcasts over x's pairs."""
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)
    return turned.flatten(-2).to(x.dtype)


Angles = tuple[Float[Tensor, "L K2"], Float[Tensor, "L K2"]]


class RotaryAttention(nn.Module):
    """Self-attention on rotated queries and keys; named as nn.MultiheadAttention is."""

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.in_proj_weight = nn.Parameter(torch.zeros(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(
        self, x: Float[Tensor, "B L D"], angles: Angles, end_B: Int[Tensor, " B"] | None = None
    ) -> Float[Tensor, "B L D"] | Float[Tensor, "B D"]:
        """Every position's output, or, given `end_B`, that of position end_B[b] of row b alone."""
        return self._everywhere(x, *angles) if end_B is None else self._at_end(x, *angles, end_B)

    def _everywhere(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        qkv = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        qkv = qkv.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # 3 B H L K
        query, key = rotate(qkv[:2], cos, sin).unbind(0)
        mixed = F.scaled_dot_product_attention(query, key, qkv[2], is_causal=self.causal)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))

    def _at_end(self, x: Tensor, cos: Tensor, sin: Tensor, end_B: Tensor) -> Tensor:
        width, weight, bias = x.shape[-1], self.in_proj_weight, self.in_proj_bias
        query = F.linear(x[torch.arange(len(x)), end_B], weight[:width], bias[:width])
        query = query.unflatten(-1, (self.heads, 1, -1))  # B H 1 K
        query = rotate(query, cos[end_B, None, None], sin[end_B, None, None])
        key_value = F.linear(x, weight[width:], bias[width:])
        key, value = key_value.unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen_BL = torch.arange(x.shape[1], device=x.device) <= end_B[:, None]
        mixed = F.scaled_dot_product_attention(
            query,
            rotate(key, cos, sin),
            value,
            attn_mask=seen_BL[:, None, None] if self.causal else None,
        )
        return self.out_proj(mixed.flatten(1))


class RotaryBlock(nn.Module):
    def __init__(
        self,
        width: int,
        heads: int,
        mlp_width: int,
        activation: nn.Module,
        eps: float,
        causal: bool,
    ) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width, eps=eps)
        self.attn = RotaryAttention(width, heads, causal)
        self.ln_2 = nn.LayerNorm(width, eps=eps)
        layers = {
            "c_fc": nn.Linear(width, mlp_width),
            "gelu": activation,
            "c_proj": nn.Linear(mlp_width, width),
        }
        self.mlp = nn.Sequential(OrderedDict(layers))

    def forward(
        self, x: Float[Tensor, "B L D"], angles: Angles, end_B: Int[Tensor, " B"] | None = None
    ) -> Float[Tensor, "B L D"] | Float[Tensor, "B D"]:
        """As `RotaryAttention.forward`."""
        kept = x if end_B is None else x[torch.arange(len(x)), end_B]
        kept = kept + self.attn(self.ln_1(x), angles, end_B)
        return kept + self.mlp(self.ln_2(kept))


class RotaryTransformer(nn.Module):
    def __init__(self, blocks: list[RotaryBlock]) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(blocks)
        self.grad_checkpointing = False

    def forward(
        self, x: Float[Tensor, "B L D"], angles: Angles, end_B: Int[Tensor, " B"]
    ) -> Float[Tensor, "B D"]:
        """The last block computes the end positions alone: nothing else of its output is read."""
        last = len(self.resblocks) - 1
        for number, block in enumerate(self.resblocks):
            arguments = (x, angles, end_B if number == last else None)
            if self.grad_checkpointing and self.training:
                x = checkpoint(block, *arguments, use_reentrant=False)
            else:
                x = block(*arguments)
        return x


class RotaryTextEncoder(nn.Module):
    """Made from an open_clip TextTransformer, whose weights, activation and pooling it takes over.

    `context_length` is where captions are cut; it sizes nothing. `gelu` puts GELU for whatever the
    activation was, as TULIP's code does. Raises ValueError, with the reason, for a text encoder
    that this architecture cannot stand in for.
    """

    def __init__(
        self, text: nn.Module, context_length: int, base: float = 10000.0, gelu: bool = False
    ) -> None:
        super().__init__()
        text = replaceable(text)
        block: Any = text.transformer.resblocks[0]
        self.heads, self.base, self.context_length = text.heads, base, context_length
        self.vocab_size, self.pool_type, self.eos_id = text.vocab_size, text.pool_type, text.eos_id
        self.token_embedding = nn.Embedding(text.vocab_size, text.width)
        self.causal = text.attn_mask is not None
        activation = nn.GELU() if gelu else copy.deepcopy(block.mlp.gelu)
        mlp = (block.mlp.c_fc.out_features, activation)
        self.transformer = RotaryTransformer(
            [
                RotaryBlock(text.width, text.heads, *mlp, block.ln_1.eps, self.causal)
                for _ in text.transformer.resblocks
            ]
        )
        self.ln_final = nn.LayerNorm(text.width, eps=block.ln_1.eps)
        # CLIP's is a matrix, SigLIP's a linear layer.
        self.text_projection: Any = copy.deepcopy(text.text_projection)
        told = self.load_state_dict(text.state_dict(), strict=False)
        if told.missing_keys or set(told.unexpected_keys) != LEFT_OVER:
            raise ValueError(
                f"the text encoder's weights do not fit: missing {told.missing_keys}, left over "
                f"{told.unexpected_keys} where only {sorted(LEFT_OVER)} may be."
            )

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        self.transformer.grad_checkpointing = enable

    def forward(self, token_BL: Int[Tensor, "B L"]) -> Float[Tensor, "B E"]:
        """Embedding at each caption's end token, after which nothing has influence; SigLIP's, whose
        encoder looks both ways over the padding too, at the last position."""
        x = self.token_embedding(token_BL)
        head_dim = x.shape[-1] // self.heads
        angles = rotary_angles(token_BL.shape[1], head_dim, self.base, token_BL.device)
        pooled_BD = self.transformer(x, angles, end_of(token_BL, self.pool_type, self.eos_id))
        embedding_BD = self.ln_final(pooled_BD)
        if isinstance(self.text_projection, nn.Linear):
            return self.text_projection(embedding_BD)
        return embedding_BD @ self.text_projection


def end_of(token_BL: Int[Tensor, "B L"], pool_type: str, eos_id: int) -> Int[Tensor, " B"]:
    """Where open_clip pools each caption: the highest id, the first `eos_id`, or the last place."""
    if pool_type == "last":
        return torch.full_like(token_BL[:, 0], token_BL.shape[1] - 1)
    if pool_type == "argmax":
        return token_BL.argmax(dim=-1)
    return (token_BL == eos_id).int().argmax(dim=-1)


def replaceable(text: nn.Module) -> TextTransformer:
    """CLIP's text transformers, causal and pooled at the end token, and SigLIP's, which look both
    ways and are pooled at the last place, have a rotary twin. Raises ValueError for others."""
    if not isinstance(text, TextTransformer):
        reason = f"it is a {type(text).__name__}, not open_clip's own text transformer"
    elif text.cls_emb is not None or text.use_pad_mask:
        reason = "its attention is neither CLIP's nor SigLIP's"
    elif text.pool_type not in (("last",) if text.attn_mask is None else ("argmax", "eos")):
        reason = f"it pools by {text.pool_type!r}, unlike CLIP and SigLIP"
    elif text.text_projection is None:
        reason = "it has no text projection"
    elif {name.split(".", 1)[1] for name, _ in text.transformer.resblocks.named_parameters()} != {
        f"{part}.{kind}"
        for part in ("ln_1", "ln_2", "attn.out_proj", "mlp.c_fc", "mlp.c_proj")
        for kind in ("weight", "bias")
    } | {"attn.in_proj_weight", "attn.in_proj_bias"}:
        reason = "its blocks hold more than attention, MLP and two norms"
    elif (text.width // text.heads) % 2:
        reason = f"its head dimension {text.width // text.heads} is odd, so pairs do not fit"
    else:
        return text
    raise ValueError(
        f"this tower's text encoder cannot get rotary positions: {reason}. Use a CLIP such as "
        "ViT-L-14-336-quickgelu:openai."
    )
