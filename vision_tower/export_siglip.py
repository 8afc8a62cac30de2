"""A SigLIP image tower, which open_clip takes from timm, as a SiglipVisionModel and processor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from open_clip.timm_model import TimmModel
from PIL.Image import Resampling
from timm.layers.attention_pool import AttentionPoolLatent
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn
from transformers import SiglipImageProcessor, SiglipVisionConfig

from vision_tower.activation import activation_name

MODULES = {
    "patch_embed.proj": "embeddings.patch_embedding",
    "norm": "post_layernorm",
    "attn_pool.proj": "head.attention.out_proj",
    "attn_pool.norm": "head.layernorm",
    "attn_pool.mlp.fc1": "head.mlp.fc1",
    "attn_pool.mlp.fc2": "head.mlp.fc2",
}
IN_BLOCK = {
    "norm1": "layer_norm1",
    "norm2": "layer_norm2",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
    "attn.proj": "self_attn.out_proj",
}


def refusal(visual: nn.Module) -> str:
    """Why no SiglipVisionModel computes what `visual` does; nothing if one does."""
    assert isinstance(visual, TimmModel)
    trunk: Any = visual.trunk
    kind = type(trunk)
    if kind is not VisionTransformer:
        return f"it is timm's {kind.__name__}, not its vision transformer"
    if not isinstance(trunk.attn_pool, AttentionPoolLatent) or trunk.cls_token is not None:
        return "it does not pool by attention, as SigLIP does"
    if not isinstance(trunk.norm_pre, nn.Identity):
        return "it has a norm before its blocks, which SigLIP's have not"
    if list(visual.head.parameters()) or trunk.num_reg_tokens:
        return "it has a projection or register tokens, which SigLIP's have not"
    if any(height != width for height, width in (visual.image_size, trunk.patch_embed.patch_size)):
        return f"pictures of {visual.image_size} are not square"
    if not all(_is_plain(block) for block in trunk.blocks):
        return "its blocks hold more than attention, MLP and two norms"
    pool: Any = trunk.attn_pool
    if activation_name(pool.mlp.act) != activation_name(trunk.blocks[0].mlp.act):
        return "its pooling and its blocks have different activations"
    return ""


def _is_plain(block: Any) -> bool:
    kind = type(block)
    return (
        kind is Block
        and isinstance(block.ls1, nn.Identity)
        and isinstance(block.attn.q_norm, nn.Identity)
        and isinstance(block.attn.norm, nn.Identity)
        and block.attn.qkv.bias is not None
        and bool(activation_name(block.mlp.act))
    )


def vision_config(visual: TimmModel) -> SiglipVisionConfig:
    trunk: Any = visual.trunk
    block = trunk.blocks[0]
    return SiglipVisionConfig(
        hidden_size=trunk.embed_dim,
        intermediate_size=block.mlp.fc1.out_features,
        num_hidden_layers=len(trunk.blocks),
        num_attention_heads=block.attn.num_heads,
        image_size=int(visual.image_size[0]),
        patch_size=trunk.patch_embed.patch_size[0],
        hidden_act=activation_name(block.mlp.act),
        layer_norm_eps=block.norm1.eps,
    )


def vision_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """TimmModel's parameters under SiglipVisionModel's names. Raises KeyError for a parameter
    without a place."""
    timm = {name.removeprefix("trunk."): tensor for name, tensor in state.items()}
    exported = {
        "embeddings.position_embedding.weight": timm.pop("pos_embed")[0],
        "head.probe": timm.pop("attn_pool.latent"),
    }
    for kind in ("weight", "bias"):
        parts = [timm.pop(f"attn_pool.{part}.{kind}") for part in ("q", "kv")]
        exported[f"head.attention.in_proj_{kind}"] = torch.cat(parts)
    for name, tensor in timm.items():
        part, kind = name.rsplit(".", 1)
        if not name.startswith("blocks."):
            exported[f"{MODULES[part]}.{kind}"] = tensor
            continue
        layer, part = part.removeprefix("blocks.").split(".", 1)
        prefix = f"encoder.layers.{layer}."
        if part == "attn.qkv":
            for letter, value in zip("qkv", tensor.chunk(3), strict=True):
                exported[f"{prefix}self_attn.{letter}_proj.{kind}"] = value
        else:
            exported[f"{prefix}{IN_BLOCK[part]}.{kind}"] = tensor
    return exported


def image_processor(visual: TimmModel, preprocess: Mapping) -> SiglipImageProcessor:
    """open_clip's evaluation transform as a SiglipImageProcessor, which squashes to a square."""
    if preprocess["resize_mode"] != "squash":
        raise ValueError(
            f"resize_mode {preprocess['resize_mode']!r} has no SiglipImageProcessor: set 'squash' "
            "in preprocess_cfg of open_clip_config.json."
        )
    height, width = cast("tuple[int, int]", visual.image_size)
    return SiglipImageProcessor(
        size={"height": height, "width": width},
        resample=Resampling[preprocess["interpolation"].upper()],
        image_mean=list(preprocess["mean"]),
        image_std=list(preprocess["std"]),
        do_convert_rgb=True,
    )
