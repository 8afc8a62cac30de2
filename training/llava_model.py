"""The model of the LLaVA stages: assembled once, opened for training, parts of it held still."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoProcessor,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)
from transformers.integrations.deepspeed import (
    set_hf_deepspeed_config,
    unset_hf_deepspeed_config,
)
from transformers.utils.import_utils import is_flash_attn_2_available

from mllm.adapters import Lora, in_4_bits, learning_part, require_whole_blocks
from mllm.assemble import assemble
from mllm.directory import readable_weights, require_llava
from mllm.row_attention import ROWS
from training.checkpoints import last_checkpoint
from training.llava_arguments import LlavaArguments


def assemble_once(
    args: LlavaArguments, vision_tower: str, language_model: str, system: str | None
) -> Path:
    """Assemble the model on the first process; every process then opens the directory.

    A run that goes on from a checkpoint keeps the directory it began with. Under ZeRO-3 parts are
    opened whole: sharding them, on one process alone, would wait for the others for ever.
    """
    output_dir = Path(args.output_dir)
    directory = output_dir / "assembled"
    dtype = torch.bfloat16 if args.bf16 else torch.float32
    with args.main_process_first(local=False, desc="assemble"):
        begun = directory.is_dir() and last_checkpoint(output_dir) is not None
        if args.process_index == 0 and not begun:
            with _whole_models(args):
                assemble(
                    vision_tower,
                    language_model,
                    directory,
                    system=system,
                    dtype=dtype,
                    seed=args.seed,
                )
    if not directory.is_dir():
        raise ValueError(f"the first process could not assemble {directory}: its message says why.")
    return directory


@contextmanager
def _whole_models(args: LlavaArguments) -> Iterator[None]:
    """transformers forgets DeepSpeed meanwhile, so that ZeRO-3 does not shard what is opened."""
    unset_hf_deepspeed_config()
    try:
        yield
    finally:
        if args.deepspeed:
            set_hf_deepspeed_config(args.hf_deepspeed_config)


def open_llava(
    directory: str | Path, args: LlavaArguments, lora: Lora | None = None
) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    """The model and processor of a LLaVA directory, for training; 4 bits if `lora` asks for it."""
    require_llava(directory)
    dtype = opened_as(args, bf16=args.bf16, deepspeed=bool(args.deepspeed))
    settings: dict[str, Any] = {}
    if lora is not None and lora.quantized:
        settings["quantization_config"] = in_4_bits(dtype)
        settings["device_map"] = {"": args.device}
    # On GPUs ZeRO-3 shards while it loads. On CPUs DeepSpeed's communication only starts with the
    # engine (Trainer's `use_cpu`), and the engine shards there.
    with _whole_models(args) if args.use_cpu else nullcontext(), readable_weights(directory):
        model = LlavaForConditionalGeneration.from_pretrained(
            directory,
            dtype=dtype,
            attn_implementation={"text_config": _attention(args)},
            **settings,
        )
    if lora is not None and lora.quantized:
        require_whole_blocks(model)
    return model, AutoProcessor.from_pretrained(directory)


def opened_as(args: LlavaArguments, *, bf16: bool, deepspeed: bool) -> torch.dtype:
    """Of the weights of a LLaVA that is trained, `bf16` or not.

    DeepSpeed keeps its own fp32 copy of bf16 weights. Without it weights that learn stay fp32, and
    bf16 is the autocast's business. A language model that does not learn needs no fp32: then all
    is bf16, and the stage holds in fp32 what learns beside it.
    """
    in_bf16 = bf16 and (deepspeed or not args.language_model_learns)
    return torch.bfloat16 if in_bf16 else torch.float32


def _attention(args: LlavaArguments) -> str:
    """What reads the LLM's attention: as `args.attention` says, or the fastest that is there."""
    if args.attention != "auto":
        return args.attention
    if args.bf16 and is_flash_attn_2_available():
        return "flash_attention_2"
    return ROWS


def unused_tower_parts(model: LlavaForConditionalGeneration) -> list[nn.Module]:
    """The tower's modules behind the layer whose features are read; they never get a gradient."""
    tower: Any = learning_part(model.model.vision_tower)
    layers, read = tower.encoder.layers, model.config.vision_feature_layer
    # Hidden state n is the output of n layers; of all of them, counted from the end, it is -1.
    states = read if isinstance(read, list) else [read]
    used = max(state if state >= 0 else len(layers) + 1 + state for state in states)
    on_the_way = {"embeddings", "pre_layrnorm", "encoder"}
    behind = [part for name, part in tower.named_children() if name not in on_the_way]
    return [*layers[used:], *behind]


def keep_in_eval(module: nn.Module) -> None:
    """Hold a frozen module in eval mode: Trainer puts the whole model into train mode each step."""
    module.register_forward_pre_hook(lambda frozen, _: frozen.eval() and None)
