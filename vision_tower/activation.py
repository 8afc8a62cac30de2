"""What transformers calls an activation of open_clip's or timm's."""

from typing import Any

from open_clip.transformer import QuickGELU
from timm.layers import GELUTanh
from torch import nn

TANH = "gelu_pytorch_tanh"


def activation_name(activation: Any) -> str:
    """As `hidden_act` of a config wants it; empty for one that CLIP and SigLIP have not."""
    if isinstance(activation, nn.GELU):
        return "gelu" if activation.approximate == "none" else TANH
    return {QuickGELU: "quick_gelu", GELUTanh: TANH}.get(type(activation), "")
