"""A LLaVA's processor, made of a tower's preprocessing and a language model's tokenizer: all that a
conversation becomes before the model itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoTokenizer,
    BaseImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModel,
    LlavaConfig,
    LlavaImageProcessor,
    LlavaProcessor,
    PreTrainedModel,
    SiglipVisionModel,
)

from mllm.directory import require_findable
from mllm.template import prepare_tokenizer


class Selection(NamedTuple):
    """How LLaVA reads patch features from one family of towers."""

    tower_class: type[PreTrainedModel]
    strategy: Literal[
        "default", "full"
    ]  # "default" drops the class token, "full" keeps every token
    class_tokens: int


_CLIP = Selection(CLIPVisionModel, "default", 1)
_SIGLIP = Selection(SiglipVisionModel, "full", 0)
_SELECTIONS = {
    "clip": _CLIP,
    "clip_vision_model": _CLIP,
    "siglip": _SIGLIP,
    "siglip_vision_model": _SIGLIP,
}


def tower_source(name: str) -> tuple[str, Selection]:
    """Where transformers finds the tower `name`, and how LLaVA reads it.

    Raises ValueError if it is neither CLIP nor SigLIP, or a path where nothing is; OSError if the
    hub has none.
    """
    remedy = "make it with training/train_vision_tower.py, or give a CLIP or SigLIP of the hub"
    require_findable(name, remedy)
    exported = Path(name) / "vision"
    source = str(exported) if exported.is_dir() else name
    if Path(source).is_dir() and not (Path(source) / "config.json").is_file():
        raise ValueError(
            f"{name} is no vision tower: neither vision/config.json nor config.json is there; "
            "give a tower directory made by training/train_vision_tower.py or a CLIP/SigLIP model"
        )
    model_type = AutoConfig.from_pretrained(source).model_type
    if model_type not in _SELECTIONS:
        raise ValueError(
            f"the vision tower {name} is a {model_type!r} model; LLaVA directories are assembled "
            f"from {', '.join(sorted(_SELECTIONS))}"
        )
    return source, _SELECTIONS[model_type]


def require_language_model(name: str) -> None:
    """Raise ValueError if `name` is a path where nothing is."""
    require_findable(name, "give the directory of a language model, or its id at the hub")


def build_processor(vision_tower: str, language_model: str, system: str | None) -> LlavaProcessor:
    """The processor of the LLaVA that `mllm.assemble.assemble` makes of the same.

    Raises ValueError if the tower is neither CLIP nor SigLIP, or the tokenizer or its chat template
    cannot serve; OSError if a part cannot be opened.
    """
    source, selection = tower_source(vision_tower)
    require_language_model(language_model)
    # Generation continues at the right end of a batch; given here, the side is saved as well.
    tokenizer = AutoTokenizer.from_pretrained(language_model, padding_side="left")
    image_token = prepare_tokenizer(tokenizer, system)
    return LlavaProcessor(
        image_processor=_whole_picture(AutoImageProcessor.from_pretrained(source)),
        tokenizer=tokenizer,
        patch_size=vision_config(vision_tower).patch_size,
        vision_feature_select_strategy=selection.strategy,
        num_additional_image_tokens=selection.class_tokens,
        chat_template=tokenizer.chat_template,
        image_token=image_token,
    )


def vision_config(vision_tower: str) -> CLIPVisionConfig:
    """A tower's configuration, SigLIP's of the same names."""
    source, selection = tower_source(vision_tower)
    return cast("Any", selection.tower_class).config_class.from_pretrained(source)


def image_token_count(config: LlavaConfig) -> int:
    """Placeholder tokens per picture of a LLaVA."""
    return patches(cast("CLIPVisionConfig", config.vision_config))


def patches(vision: CLIPVisionConfig) -> int:
    """Of a picture; the class token, where there is one, is dropped."""
    return (cast("int", vision.image_size) // cast("int", vision.patch_size)) ** 2


def _whole_picture(image_processor: BaseImageProcessor) -> BaseImageProcessor:
    """The tower's own preprocessing, except that no part of a picture is cut off.

    CLIP resizes the short side and crops the centre. LLaVA-1.5 pads the picture to a square with
    the mean colour first (`image_aspect_ratio pad`); transformers' LlavaImageProcessor with
    `do_pad` is exactly that and equal to CLIP's on square pictures. SigLIP squashes to a square,
    as it was trained: kept.
    """
    settings = image_processor.to_dict()
    if not settings.get("do_center_crop"):
        return image_processor
    kept = ("size", "crop_size", "resample", "image_mean", "image_std", "rescale_factor")
    return LlavaImageProcessor(do_pad=True, **{name: settings[name] for name in kept})
