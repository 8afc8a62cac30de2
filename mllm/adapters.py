"""Low-rank adapters of a LLaVA: put on, opened and merged. The one file that knows peft.

What learns is saved as peft saves it, the projector, and a tower that learns, whole beside the
adapters; base.json says of what they are adapters, by the hashes of its weights.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME, ModulesToSaveWrapper
from pydantic import ConfigDict, Field, PositiveInt
from pydantic.dataclasses import dataclass
from torch import nn
from transformers import BitsAndBytesConfig, LlavaForConditionalGeneration

from mllm.directory import SUMS, readable_weights, sha256, weight_hashes, written_sums

BASE = "base.json"
BLOCK = 64  # weights that bitsandbytes quantises together
TOWER, PROJECTOR, LAYERS = (
    "model.vision_tower",
    "model.multi_modal_projector",
    "model.language_model.layers",
)
Part = Literal["attention", "mlp"]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Lora:
    """Defaults: LLaVA-1.5's own script for LoRA.

    rank, alpha, dropout: of LoRA (arXiv 2106.09685).
    parts: of the LLM's layers, whose linear maps get adapters.
    dora: learn their magnitudes apart (arXiv 2402.09353).
    quantized: hold the LLM's layers in 4 bits, nf4 with double quantisation (arXiv 2305.14314).
    """

    rank: PositiveInt = 128
    alpha: PositiveInt = 256
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05
    parts: tuple[Part, ...] = ("attention", "mlp")
    dora: bool = False
    quantized: bool = False


def add_adapters(
    model: LlavaForConditionalGeneration, lora: Lora, *, tower: bool = False
) -> PeftModel:
    """`model` with adapters on its LLM. They and the projector learn, in fp32, the whole tower too
    if `tower`, and nothing else."""
    told = get_peft_model(
        model,
        LoraConfig(
            r=lora.rank,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules=linear_maps(model, lora.parts),
            use_dora=lora.dora,
            modules_to_save=[PROJECTOR, TOWER] if tower else [PROJECTOR],
        ),
    )
    name = str(model.name_or_path)
    told.peft_config["default"].base_model_name_or_path = (
        str(Path(name).absolute()) if Path(name).is_dir() else name
    )
    for parameter in told.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return cast("PeftModel", told)


def learning_part(module: nn.Module) -> nn.Module:
    """A part of a LLaVA, or the copy of it that learns where peft keeps one beside the first."""
    if isinstance(module, ModulesToSaveWrapper):
        return module.modules_to_save[module.active_adapters[0]]
    return module


def linear_maps(model: LlavaForConditionalGeneration, parts: tuple[Part, ...]) -> list[str]:
    """Full names of the linear maps in `parts` of the LLM's layers: nothing of the tower, whose
    names are alike, is among them."""
    layers = cast("nn.ModuleList", model.get_submodule(LAYERS))
    return [
        f"{LAYERS}.{name}"
        for name, module in layers.named_modules()
        if isinstance(module, nn.Linear)
        and ("attention" if ".self_attn." in f".{name}" else "mlp") in parts
    ]


def in_4_bits(compute: torch.dtype) -> BitsAndBytesConfig:
    """QLoRA's quantisation of the LLM's layers alone. Names are full: for "vision_tower"
    transformers would find no module, and quantise the tower."""
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute,
        llm_int8_skip_modules=[TOWER, PROJECTOR, "lm_head"],
    )


def require_whole_blocks(model: LlavaForConditionalGeneration) -> None:
    """Raise ValueError unless what the LLM's linear maps read are whole blocks: bitsandbytes trains
    others in 4 bits, and cannot compute with them afterwards."""
    for name in linear_maps(model, ("attention", "mlp")):
        width = cast("nn.Linear", model.get_submodule(name)).in_features
        if width % BLOCK:
            raise ValueError(
                f"{name} reads {width} values and cannot be held in 4 bits, which takes multiples "
                f"of {BLOCK}: leave `quantized` out of --lora."
            )


def llava_of(model: LlavaForConditionalGeneration | PeftModel) -> LlavaForConditionalGeneration:
    """The LLaVA itself, which adapters may be put on."""
    inner = model.get_base_model() if isinstance(model, PeftModel) else model
    return cast("LlavaForConditionalGeneration", inner)


def base_record(model: str, lora: Lora) -> dict[str, Any]:
    """Of what adapters are trained: a LLaVA directory (or hub id), and its weights' hashes."""
    name = str(Path(model).absolute()) if Path(model).is_dir() else model
    return {"model": name, "quantized": lora.quantized, "sha256": weight_hashes(model)}


def write_base(record: dict[str, Any], directory: Path) -> None:
    """Beside adapters: they are worth nothing without."""
    (directory / BASE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def read_base(directory: str | Path) -> dict[str, Any]:
    """What `write_base` wrote. Raises ValueError if it is not there."""
    record = Path(directory) / BASE
    if not record.is_file():
        raise ValueError(
            f"{directory} has adapters and no {BASE} that says of what: give a directory that "
            "training/finetune.py wrote, or a LLaVA directory."
        )
    return json.loads(record.read_text(encoding="utf-8"))


def require_same_base(told: dict[str, Any], hashes: dict[str, str], directory: str | Path) -> None:
    """Raise ValueError unless adapters in `directory`, of the base `told`, are of these weights."""
    if told["sha256"] != hashes:
        raise ValueError(
            f"{directory} holds adapters of {told['model']} as it was; its weights have changed "
            "since, and the adapters mean nothing on them. Put the first ones back."
        )


def has_adapters(directory: str | Path) -> bool:
    return (Path(directory) / CONFIG_NAME).is_file()


def open_adapted(directory: str | Path, **settings: Any) -> PeftModel:
    """The base that adapters in `directory` were trained on, in 4 bits if it was, and the adapters
    on it.

    Args:
        directory: that stage 4 wrote, or one of its checkpoints.
        settings: of `LlavaForConditionalGeneration.from_pretrained`.

    Raises ValueError if the base is gone or is another one by now, or if a file cannot be read or
    is not what was written.
    """
    base = _base(directory, settings)
    return _adapters_on(base, directory)


def merge(directory: str | Path) -> LlavaForConditionalGeneration:
    """A plain LLaVA in fp32, on the CPU, that computes what base and adapters do; of a base that
    was held in 4 bits, with the weights that those stand for.

    Raises ValueError as `open_adapted`.
    """
    base = _base(directory, {"dtype": torch.float32, "device_map": "cpu"})
    if base.config.to_dict().get("quantization_config") is not None:
        base = base.dequantize(dtype=torch.float32)
    adapted = _adapters_on(base, directory)
    return cast("LlavaForConditionalGeneration", adapted.merge_and_unload())


def _adapters_on(base: LlavaForConditionalGeneration, directory: str | Path) -> PeftModel:
    with readable_weights(directory):
        return PeftModel.from_pretrained(base, str(directory))


def _require_sound(directory: Path) -> None:
    """Raise ValueError if what peft reads is not what was written; base.json may be edited."""
    if not (directory / SUMS).is_file():  # not ours, or from before there were any
        return
    written = written_sums(directory)
    for name in (CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME):
        if sha256(directory / name) != written.get(name):
            raise ValueError(
                f"{directory / name} is not what was written: copy it again from where it is "
                "whole, or take another checkpoint of the run."
            )


def _base(directory: str | Path, settings: dict[str, Any]) -> LlavaForConditionalGeneration:
    _require_sound(Path(directory))
    told = read_base(directory)
    base = told["model"]
    if told["sha256"] and not Path(base).is_dir():
        raise ValueError(
            f"{directory} holds adapters of {base}, which is not there: put it back, or write "
            f"where it is now into {Path(directory) / BASE}."
        )
    require_same_base(told, weight_hashes(base), directory)
    if told["quantized"]:
        dtype = settings["dtype"]
        compute = dtype if isinstance(dtype, torch.dtype) else torch.bfloat16
        settings = {**settings, "quantization_config": in_4_bits(compute)}
    with readable_weights(base):
        return LlavaForConditionalGeneration.from_pretrained(base, **settings)
