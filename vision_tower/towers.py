"""The CLIP a tower comes from: opened from anywhere open_clip opens models, saved as a directory.

A tower directory holds open_clip_config.json and open_clip_model.safetensors (open_clip's
"local-dir:" layout; a rotary text encoder is told by the extra key "rotary_text"), the tokenizer's
files if it is a Hugging Face one, and vision/, a stock transformers vision model + image processor.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import open_clip
import torch
from jaxtyping import Float, Int
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from vision_tower.export import export_vision
from vision_tower.rotary_text import RotaryTextEncoder
from vision_tower.tokenizer import OpenClipTokenizer, Tokenizer, is_plainly_causal
from vision_tower.weights import to_disk, to_memory

logger = logging.getLogger(__name__)

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
PREPROCESS_KEYS = ("mean", "std", "interpolation", "resize_mode", "fill_color")
MAX_LOGIT_SCALE = math.log(100)  # CLIP: the temperature never makes logits larger than 100x


class Tower(nn.Module):
    """Image encoder, text encoder and temperature. `config` is open_clip_config.json's content."""

    def __init__(
        self,
        visual: Any,
        text: Any,
        logit_scale: nn.Parameter,
        logit_bias: nn.Parameter | None,
        tokenize: OpenClipTokenizer,
        config: dict,
    ) -> None:
        super().__init__()
        self.visual, self.text = visual, text
        # open_clip's are 0-dimensional, which DeepSpeed cannot broadcast.
        self.logit_scale = nn.Parameter(logit_scale.detach().reshape(1))
        self.logit_bias = None if logit_bias is None else nn.Parameter(logit_bias.reshape(1))
        self.config = config
        self.tokenizer = Tokenizer(tokenize, text)
        cfg = PreprocessCfg(size=visual.image_size, **config["preprocess_cfg"])
        transform = image_transform_v2(cfg, is_train=False)
        self.preprocess = cast("Callable[[Image.Image], Tensor]", transform)
        self._tokenize = tokenize

    @property
    def context_length(self) -> int:
        return self.tokenizer.context_length

    def encode_image(
        self, pixel_values_BCHW: Float[Tensor, "B 3 H W"], normalize: bool = False
    ) -> Float[Tensor, "B D"]:
        return _features(self.visual(pixel_values_BCHW), normalize)

    def encode_text(
        self, token_BL: Int[Tensor, "B L"], normalize: bool = False
    ) -> Float[Tensor, "B D"]:
        return _features(self.text(token_BL), normalize)

    def forward(
        self, pixel_values_BCHW: Float[Tensor, "B 3 H W"], token_batches: list[Int[Tensor, "_ _"]]
    ) -> tuple[list[Float[Tensor, "_ D"]], dict[str, Float[Tensor, ""]]]:
        """Normalised features of the pictures, then of each batch of texts that has rows; and the
        "scale" of logits, and their "bias" if there is one. Training goes through here: ZeRO-3
        gathers a module's parameters when it is called."""
        texts = [self.encode_by_length(tokens) for tokens in token_batches if len(tokens)]
        bias = {} if self.logit_bias is None else {"bias": self.logit_bias.squeeze()}
        return [self.encode_image(pixel_values_BCHW, True), *texts], {"scale": self.scale(), **bias}

    def encode_by_length(self, token_BL: Int[Tensor, "B L"]) -> Float[Tensor, "B D"]:
        """Normalised features, captions of like length in one call. On every process there are as
        many calls: under ZeRO-3 they wait for each other."""
        rows, groups = zip(*self.tokenizer.by_length(token_BL), strict=True)
        return torch.cat([self.encode_text(g, True) for g in groups])[torch.cat(rows).argsort()]

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        self.visual.set_grad_checkpointing(enable)
        self.text.set_grad_checkpointing(enable)

    def scale(self) -> Float[Tensor, ""]:
        """exp of the temperature; while it learns, held at 100 in place, as open_clip does."""
        if self.logit_scale.requires_grad:
            with torch.no_grad():
                self.logit_scale.clamp_(max=MAX_LOGIT_SCALE)
        return self.logit_scale.exp().squeeze()

    def with_rotary_text(self, context_length: int, base: float, gelu: bool = False) -> Tower:
        """The same tower, sharing the image side, with a rotary copy of its text encoder, whose
        activation `gelu` makes GELU. The config's "rotary_text" holds `base` and `gelu`."""
        if context_length < self.context_length:
            raise ValueError(
                f"context_length {context_length} is below the tower's own {self.context_length}: "
                "rotary positions are for longer captions. Give more."
            )
        with self.logit_scale.device:
            text = RotaryTextEncoder(self.text, context_length, base, gelu)
        model_cfg = self.config["model_cfg"]
        text_cfg = {**model_cfg["text_cfg"], "context_length": context_length}
        config = {
            **self.config,
            "model_cfg": {**model_cfg, "text_cfg": text_cfg},
            "rotary_text": {"base": base, "gelu": gelu},
        }
        return Tower(self.visual, text, self.logit_scale, self.logit_bias, self._tokenize, config)


def _cut_mask(_: nn.Module, args: tuple[Tensor], kwargs: dict[str, Tensor]) -> tuple[tuple, dict]:
    """open_clip hands its transformer the mask of the full length, whatever the batch's length."""
    length = args[0].shape[1]
    return args, {**kwargs, "attn_mask": kwargs["attn_mask"][..., :length, :length]}


def _features(features_BD: Tensor, normalize: bool) -> Tensor:
    return F.normalize(features_BD.float(), dim=-1) if normalize else features_BD


def load_tower(name_or_path: str, weights: bool = True) -> Tower:
    """Open `<architecture>:<tag>` ("ViT-L-14-336-quickgelu:openai"), "hf-hub:<id>" or a directory.

    Without `weights` its parameters are on the meta device, and none are read or fetched.
    Raises FileNotFoundError or ValueError that says what is missing and what to do.
    """
    if Path(name_or_path).is_dir():
        return _load_directory(Path(name_or_path), weights)
    if name_or_path.startswith("hf-hub:"):
        return _from_open_clip(name_or_path, None, weights)
    name, _, tag = name_or_path.partition(":")
    if name not in open_clip.list_models():
        raise FileNotFoundError(
            f"the tower {name_or_path!r} is neither a directory nor an open_clip model. Give a "
            'tower directory, "<architecture>:<tag>" or "hf-hub:<id>".'
        )
    tags = open_clip.list_pretrained_tags_by_model(name)
    if tag not in tags and not Path(tag).is_file():
        known = ", ".join(tags) or "none: give a file"
        raise ValueError(f"{name!r} has no weights {tag!r}. Say {name}:<tag>; tags: {known}.")
    trained = open_clip.get_pretrained_cfg(name, tag) or {}
    model_cfg = open_clip.get_model_config(name) or {}
    if trained.get("quick_gelu") and not model_cfg.get("quick_gelu"):
        raise ValueError(
            f"the weights {name_or_path!r} were trained with QuickGELU: say {name}-quickgelu:{tag}."
        )
    return _from_open_clip(name, tag, weights)


def _load_directory(directory: Path, weights: bool) -> Tower:
    if not (directory / CONFIG).is_file():
        raise FileNotFoundError(
            f"{directory} is no tower: it has no {CONFIG}. A stage that was stopped leaves "
            "checkpoints only; run it again to finish it."
        )
    if not any(path.suffix in (".safetensors", ".bin", ".pth") for path in directory.iterdir()):
        raise FileNotFoundError(
            f"{directory} holds no weights: {WEIGHTS} is missing. Copy it there, or make the tower "
            "again."
        )
    try:
        config = json.loads((directory / CONFIG).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{directory / CONFIG} is no json ({error}): copy it again.") from error
    try:
        if "rotary_text" in config:
            return _load_rotary(directory, config, weights)
        return _from_open_clip(f"local-dir:{directory}", None, weights)
    except SafetensorError as error:
        raise ValueError(f"{directory}: broken weights ({error}). Copy them again.") from error


def _load_rotary(directory: Path, config: dict, weights: bool) -> Tower:
    """open_clip has no rotary text encoder: build its absolute twin, then put ours in its place."""
    with torch.device("cpu" if weights else "meta"):
        tower = random_tower(config, open_clip.get_tokenizer(f"local-dir:{directory}"))
        tower = tower.with_rotary_text(tower.context_length, **config["rotary_text"])
    if weights:
        tower.load_state_dict(to_memory(load_file(directory / WEIGHTS)), strict=True)
    return tower


def random_tower(config: dict, tokenize: OpenClipTokenizer) -> Tower:
    """With random weights, and learned positions: what `config` says of rotary ones is not read."""
    sizes = {name: v for name, v in config["model_cfg"].items() if name != "custom_text"}
    return _assembled(open_clip.CustomTextCLIP(**sizes), tokenize, config)


def _from_open_clip(name: str, tag: str | None, weights: bool) -> Tower:
    model_cfg = open_clip.get_model_config(name)
    if model_cfg is None or "multimodal_cfg" in model_cfg:
        raise ValueError(f"{name!r} is no CLIP of one image and one text encoder: choose another.")
    device = torch.device("cpu" if weights else "meta")
    with device:
        model = open_clip.create_model(
            name,
            tag if weights else None,
            load_weights=weights,
            require_pretrained=weights,
            device=device,
            force_custom_text=True,
            force_preprocess_cfg=open_clip.get_pretrained_cfg(name, tag) if tag else None,
        )
    preprocess = open_clip.get_model_preprocess_cfg(model)
    config = {
        "model_cfg": model_cfg,
        "preprocess_cfg": {key: preprocess[key] for key in PREPROCESS_KEYS},
    }
    return _assembled(
        cast("open_clip.CustomTextCLIP", model), open_clip.get_tokenizer(name), config
    )


def _assembled(model: open_clip.CustomTextCLIP, tokenize: OpenClipTokenizer, config: dict) -> Tower:
    if is_plainly_causal(model.text):
        model.text.transformer.register_forward_pre_hook(_cut_mask, with_kwargs=True)
    return Tower(model.visual, model.text, model.logit_scale, model.logit_bias, tokenize, config)


def save_tower(
    tower: Tower, directory: str | Path, state: Mapping[str, Tensor] | None = None
) -> None:
    """Write the tower directory. `state` replaces the live weights (names of `tower.state_dict()`),
    as it must under ZeRO-3, where these are shards."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    state = {k: v.detach().cpu().contiguous() for k, v in (state or tower.state_dict()).items()}
    visual = {k.removeprefix("visual."): v for k, v in state.items() if k.startswith("visual.")}
    export_vision(tower.visual, visual, tower.config["preprocess_cfg"], directory / "vision")
    tower.tokenizer.save(directory)
    save_file(
        to_disk(state, tower.config["model_cfg"]), directory / WEIGHTS, metadata={"format": "pt"}
    )
    (directory / CONFIG).write_text(json.dumps(tower.config, indent=2) + "\n", encoding="utf-8")
