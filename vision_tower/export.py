"""A tower's image side as a stock transformers vision model and image processor.

Tests hold the mappings to 1e-5, with random weights: ViT-L/14-336, SigLIP's B/16 and SO400M/14.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn
from transformers import CLIPVisionModel, PreTrainedModel, SiglipVisionModel

from vision_tower import export_clip, export_siglip

# By open_clip's class: the module that maps it, and the model it becomes.
FAMILIES: dict[type[nn.Module], tuple[Any, type[PreTrainedModel]]] = {
    VisionTransformer: (export_clip, CLIPVisionModel),
    TimmModel: (export_siglip, SiglipVisionModel),
}


def check_exportable(visual: nn.Module, preprocess: Mapping) -> None:
    """Raise ValueError, with the reason, if no vision model of transformers computes what `visual`
    does, or no image processor what its preprocess_cfg says."""
    if type(visual) in FAMILIES:
        reason = FAMILIES[type(visual)][0].refusal(visual)
    else:
        reason = f"it is a {type(visual).__name__}, not a vision transformer of CLIP or SigLIP"
    if reason:
        raise ValueError(
            f"this tower's image side cannot be written as a transformers vision model: {reason}. "
            "Use a CLIP with a native ViT, such as ViT-L-14-336-quickgelu:openai, or a SigLIP."
        )
    FAMILIES[type(visual)][0].image_processor(visual, preprocess)


def vision_model(visual: nn.Module, state: Mapping[str, Tensor]) -> PreTrainedModel:
    """With the weights `state` (names of `visual`); every key must match."""
    family, model_class = FAMILIES[type(visual)]
    model = model_class(family.vision_config(visual))
    model.load_state_dict(family.vision_state(state), strict=True)
    return model.eval()


def export_vision(
    visual: nn.Module, state: Mapping[str, Tensor], preprocess: Mapping, directory: Path
) -> None:
    """Write `vision/`: config.json, model.safetensors, preprocessor_config.json."""
    check_exportable(visual, preprocess)
    family, _ = FAMILIES[type(visual)]
    model = vision_model(visual, state)
    # The names of the hub's towers: transformers 5 reads them too, older readers nothing else.
    names = {f"vision_model.{name}": weight for name, weight in model.state_dict().items()}
    model.save_pretrained(directory, state_dict=names)
    family.image_processor(visual, preprocess).save_pretrained(directory)
