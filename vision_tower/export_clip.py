"""open_clip's own vision transformer as a CLIPVisionModel and CLIPImageProcessor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from open_clip.utils import to_2tuple
from PIL.Image import Resampling
from torch import Tensor, nn
from transformers import CLIPImageProcessor, CLIPVisionConfig

from vision_tower.activation import activation_name

TOP = {
    "class_embedding": "embeddings.class_embedding",
    "conv1.weight": "embeddings.patch_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_pre": "pre_layrnorm",  # transformers' spelling
    "ln_post": "post_layernorm",
}
IN_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}


def refusal(visual: nn.Module) -> str:
    """Why no CLIPVisionModel computes what `visual` does; nothing if one does."""
    assert isinstance(visual, VisionTransformer)
    if visual.attn_pool is not None or visual.pool_type != "tok" or visual.final_ln_after_pool:
        return "it does not pool at its class token as CLIP does"
    if isinstance(visual.ln_pre, nn.Identity):
        return "it has no norm before its blocks"
    if visual.proj is None or visual.conv1.bias is not None:
        return "its patch embedding or projection is not CLIP's"
    if any(height != width for height, width in sizes_of(visual)):
        sizes = f"{visual.image_size} in patches of {visual.patch_size}"
        return f"pictures of {sizes} are not square"
    if not all(_is_plain(block) for block in visual.transformer.resblocks):
        return "its blocks hold more than attention, MLP and two norms"
    return ""


def sizes_of(visual: VisionTransformer) -> list[tuple[int, int]]:
    """(height, width) of a picture and of a patch, in pixels."""
    sizes = (to_2tuple(visual.image_size), to_2tuple(visual.patch_size))
    return cast("list[tuple[int, int]]", [tuple(size) for size in sizes])


def _is_plain(block: nn.Module) -> bool:
    return (
        isinstance(block, ResidualAttentionBlock)
        and isinstance(block.ls_1, nn.Identity)
        and bool(activation_name(block.mlp.gelu))
    )


def vision_config(visual: VisionTransformer) -> CLIPVisionConfig:
    block: Any = visual.transformer.resblocks[0]
    (image_size, _), (patch_size, _) = sizes_of(visual)
    return CLIPVisionConfig(
        hidden_size=visual.conv1.out_channels,
        intermediate_size=block.mlp.c_fc.out_features,
        projection_dim=visual.output_dim,
        num_hidden_layers=len(visual.transformer.resblocks),
        num_attention_heads=block.attn.num_heads,
        image_size=image_size,
        patch_size=patch_size,
        hidden_act=activation_name(block.mlp.gelu),
        layer_norm_eps=block.ln_1.eps,
    )


def vision_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """open_clip `visual.` parameters under CLIPVisionModel's names; `proj`, which no MLLM
    uses, is left out. Raises KeyError for a parameter without a place."""
    exported: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name == "proj":
            continue
        if name.startswith("transformer.resblocks."):
            layer, rest = name.removeprefix("transformer.resblocks.").split(".", 1)
            prefix = f"encoder.layers.{layer}."
            if rest.startswith("attn.in_proj_"):
                kind = rest.removeprefix("attn.in_proj_")
                for part, value in zip("qkv", tensor.chunk(3), strict=True):
                    exported[f"{prefix}self_attn.{part}_proj.{kind}"] = value
            else:
                part, kind = rest.rsplit(".", 1)
                exported[f"{prefix}{IN_BLOCK[part]}.{kind}"] = tensor
        elif name in TOP:
            exported[TOP[name]] = tensor
        else:
            part, kind = name.rsplit(".", 1)
            exported[f"{TOP[part]}.{kind}"] = tensor
    return exported


def image_processor(visual: VisionTransformer, preprocess: Mapping) -> CLIPImageProcessor:
    """open_clip's evaluation transform as a CLIPImageProcessor. `preprocess`: a preprocess_cfg."""
    image_size = sizes_of(visual)[0][0]
    mode, square = preprocess["resize_mode"], {"height": image_size, "width": image_size}
    if mode not in ("shortest", "squash"):
        raise ValueError(
            f"resize_mode {mode!r} has no CLIPImageProcessor: set 'shortest' or 'squash' in "
            "preprocess_cfg of open_clip_config.json."
        )
    return CLIPImageProcessor(
        size={"shortest_edge": image_size} if mode == "shortest" else square,
        crop_size=square,
        do_center_crop=mode == "shortest",
        resample=Resampling[preprocess["interpolation"].upper()],
        image_mean=list(preprocess["mean"]),
        image_std=list(preprocess["std"]),
        do_convert_rgb=True,
    )
