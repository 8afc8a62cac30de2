"""open_clip's vision transformer as a stock transformers CLIPVisionModel + CLIPImageProcessor.

The mapping was checked key by key for ViT-B/32, L/14 and L/14-336; tests hold it to 1e-5.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from open_clip.transformer import QuickGELU, ResidualAttentionBlock, VisionTransformer
from open_clip.utils import to_2tuple
from PIL.Image import Resampling
from torch import Tensor, nn
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

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
HIDDEN_ACT = {QuickGELU: "quick_gelu", nn.GELU: "gelu"}


def check_exportable(visual: nn.Module, preprocess: Mapping) -> None:
    """Raise ValueError, with the reason, if `visual` has no CLIPVisionModel that computes it, or
    its preprocess_cfg no CLIPImageProcessor."""
    if not isinstance(visual, VisionTransformer):
        reason = f"it is a {type(visual).__name__}, not open_clip's own vision transformer"
    elif visual.attn_pool is not None or visual.pool_type != "tok" or visual.final_ln_after_pool:
        reason = "it does not pool at its class token as CLIP does"
    elif isinstance(visual.ln_pre, nn.Identity):
        reason = "it has no norm before its blocks"
    elif visual.proj is None or visual.conv1.bias is not None:
        reason = "its patch embedding or projection is not CLIP's"
    elif any(height != width for height, width in sizes_of(visual)):
        reason = f"pictures of {visual.image_size} in patches of {visual.patch_size} are not square"
    elif not all(_is_plain(block) for block in visual.transformer.resblocks):
        reason = "its blocks hold more than attention, MLP and two norms"
    else:
        image_processor(sizes_of(visual)[0][0], preprocess)
        return
    raise ValueError(
        f"this tower's image side cannot be written as a transformers vision model: {reason}. "
        "Use a CLIP with a native ViT, such as ViT-L-14-336-quickgelu:openai."
    )


def sizes_of(visual: VisionTransformer) -> list[tuple[int, int]]:
    """(height, width) of a picture and of a patch, in pixels."""
    sizes = (to_2tuple(visual.image_size), to_2tuple(visual.patch_size))
    return cast("list[tuple[int, int]]", [tuple(size) for size in sizes])


def _is_plain(block: nn.Module) -> bool:
    return (
        isinstance(block, ResidualAttentionBlock)
        and isinstance(block.ls_1, nn.Identity)
        and type(block.mlp.gelu) in HIDDEN_ACT
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
        hidden_act=HIDDEN_ACT[type(block.mlp.gelu)],
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


def vision_model(visual: VisionTransformer, state: Mapping[str, Tensor]) -> CLIPVisionModel:
    """A CLIPVisionModel with the weights `state` (names of `visual`); every key must match."""
    model = CLIPVisionModel(vision_config(visual))
    model.load_state_dict(vision_state(state), strict=True)
    return model.eval()


def image_processor(image_size: int, preprocess: Mapping) -> CLIPImageProcessor:
    """open_clip's evaluation transform as a CLIPImageProcessor. `preprocess`: a preprocess_cfg."""
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


def export_vision(
    visual: nn.Module, state: Mapping[str, Tensor], preprocess: Mapping, directory: Path
) -> None:
    """Write `vision/`: config.json, model.safetensors, preprocessor_config.json."""
    check_exportable(visual, preprocess)
    assert isinstance(visual, VisionTransformer)
    vision_model(visual, state).save_pretrained(directory)
    image_processor(sizes_of(visual)[0][0], preprocess).save_pretrained(directory)
