"""Towers from checkpoints that others released: CLIP-IN's, TULIP's and Long-CLIP's.

What they hold, by the code on GitHub that reads or writes them:

- CLIP-IN (tommmmywangzt1118/VITRIX-CLIPIN): a "state_dict" of `module.visual.*`, `module.text.*`.
  Rotary positions: no table of learned ones.
- TULIP (ivonajdenkoska/tulip), after its second stage: a "state_dict" of `module.*` with the names
  of open_clip's CLIP. Rotary positions, and the CLIP's table of 77 learned ones that nothing reads.
- Long-CLIP (beichenzbc/Long-CLIP): the weights alone, by the names of OpenAI's CLIP, and two tables
  of 248 learned positions, the first 20 rows read from one, the others from the other.

TULIP's rotary text encoder, which CLIP-IN's is line by line, has GELU where its base has QuickGELU.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import open_clip
import torch
from open_clip.transform import PreprocessCfg
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from vision_tower.towers import PREPROCESS_KEYS, Tower, random_tower
from vision_tower.weights import to_memory

# Of the rotary encoders, by the code that evaluates them: TULIP's NTK scaling is not in it.
ROTARY_CONTEXT, ROTARY_BASE = 248, 10000.0
KEPT_POSITIONS = 20  # of Long-CLIP's first table, mask1 in its model_longclip.py
TABLE, STRETCHED = "text.positional_embedding", "text.positional_embedding_res"


def released_tower(file: Path, architecture: str, rotary: bool = False) -> Tower:
    """The tower in `file`, whose sizes and image activation open_clip's `architecture` gives.

    The layout is told by the weights' names, except TULIP's, which are those of any CLIP: it takes
    `rotary`. Pictures are prepared as for OpenAI's CLIP, as the three evaluations do. Raises
    FileNotFoundError or ValueError that names the file, the weights, and what to do.
    """
    model_cfg = _model_cfg(architecture)
    state = to_memory(read_weights(file))
    if STRETCHED in state:
        if rotary or not model_cfg.get("quick_gelu"):
            raise ValueError(
                f"{file} is Long-CLIP's: learned positions and QuickGELU. Leave --rotary out and "
                f"give an architecture like ViT-L-14-quickgelu, not {architecture}."
            )
        state[TABLE] = _long_clip_positions(file, state.get(TABLE), state.pop(STRETCHED))
        model_cfg["text_cfg"]["context_length"] = len(state[TABLE])
        tower = _random_tower(architecture, model_cfg)
    elif rotary or TABLE not in state:
        state.pop(TABLE, None)
        tower = _random_tower(architecture, model_cfg)
        tower = tower.with_rotary_text(ROTARY_CONTEXT, ROTARY_BASE, gelu=True)
    else:
        raise ValueError(
            f"{file} has a table of learned positions. If nothing reads it, as in TULIP's, say "
            f"--rotary; if it is a plain CLIP, it needs no import: open {architecture}:{file}."
        )
    _check_weights(file, architecture, state, tower.state_dict())
    tower.load_state_dict(state, strict=True)
    return tower


def read_weights(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors or torch file by name, without DistributedDataParallel's
    `module.`; nothing in the file is run. Raises FileNotFoundError or ValueError."""
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {file}: give the checkpoint as it was released.")
    try:
        if file.suffix == ".safetensors":
            content = load_file(file)
        else:
            content = torch.load(file, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, SafetensorError) as error:
        raise ValueError(
            f"{file} is no checkpoint that opens without running code in it: give the file as it "
            "was released, or save its weights alone as safetensors."
        ) from error
    state = content.get("state_dict", content) if isinstance(content, dict) else content
    if (
        not isinstance(state, dict)
        or not state
        or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items())
    ):
        raise ValueError(f"{file} holds no weights by name: give the checkpoint of a CLIP.")
    return {name.removeprefix("module."): tensor for name, tensor in state.items()}


def _model_cfg(architecture: str) -> dict:
    known = architecture in open_clip.list_models()
    model_cfg = open_clip.get_model_config(architecture) if known else None
    if model_cfg is None:
        reason = "no architecture of open_clip's"
    elif "multimodal_cfg" in model_cfg or "hf_model_name" in model_cfg["text_cfg"]:
        reason = "no CLIP of one image encoder and open_clip's own text encoder"
    else:
        return model_cfg
    raise ValueError(f"{architecture!r} is {reason}: give one such as ViT-L-14-quickgelu.")


def _random_tower(architecture: str, model_cfg: dict) -> Tower:
    preprocess = asdict(PreprocessCfg())
    config = {
        "model_cfg": model_cfg,
        "preprocess_cfg": {key: preprocess[key] for key in PREPROCESS_KEYS},
    }
    return random_tower(config, open_clip.get_tokenizer(architecture))


def _long_clip_positions(file: Path, kept: Tensor | None, stretched: Tensor) -> Tensor:
    """The table [L, W] that Long-CLIP makes at every call: kept * mask1 + stretched * mask2."""
    if kept is None or kept.shape != stretched.shape:
        raise ValueError(
            f"{file} lacks the positional_embedding that goes with its positional_embedding_res: "
            "give the checkpoint as it was released."
        )
    return torch.cat((kept[:KEPT_POSITIONS], stretched[KEPT_POSITIONS:]))


def _check_weights(
    file: Path, architecture: str, state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> None:
    """Raise ValueError naming what is missing, left over or of another shape."""
    shapes = [
        f"{name} {tuple(state[name].shape)} for {tuple(wanted[name].shape)}"
        for name in wanted
        if name in state and state[name].shape != wanted[name].shape
    ]
    wrong = {
        "missing": [name for name in wanted if name not in state],
        "left over": [name for name in state if name not in wanted],
        "of another shape": shapes,
    }
    if any(wrong.values()):
        told = "; ".join(f"{what}: {_some(names)}" for what, names in wrong.items() if names)
        raise ValueError(
            f"the weights in {file} are not those of {architecture} ({told}). Give the "
            "architecture they were trained as, or the checkpoint as it was released."
        )


def _some(names: list[str], most: int = 5) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
