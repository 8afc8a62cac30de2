"""Write tower and projector of a LLaVA directory as llama.cpp's "mmproj" file.

    pip install gguf
    python scripts/export_mmproj.py out/clip-in/mllm out/clip-in/mmproj.gguf

llama.cpp's own convert_hf_to_gguf.py does the language model, and takes a LLaVA's tower only if it
is Pixtral's. scripts/to_gguf.md has all commands.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import gguf  # pyright: ignore[reportMissingImports], no dependency of the kit
import numpy as np
import torch
from transformers import AutoProcessor, LlavaForConditionalGeneration

from mllm.directory import require_llava
from training.llava_model import unused_tower_parts

# Names of the projector's maps: a gelu without weights stands between them.
PROJECTOR = {"linear_1": "mm.0", "linear_2": "mm.2"}
ACTIVATIONS = {"gelu": True, "quick_gelu": False}  # what llama.cpp's "use_gelu" tells apart


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="a LLaVA directory; merge adapters first")
    parser.add_argument("output", type=Path, help="the file, .gguf")
    flags = parser.parse_args()
    try:
        write_mmproj(flags.model, flags.output)
    except (OSError, ValueError) as error:
        parser.error(str(error))


def write_mmproj(directory: Path, output: Path) -> None:
    """Maps in fp16, vectors in fp32, as llama.cpp writes them.

    Raises ValueError if llama.cpp would compute something else than the model does.
    """
    require_llava(directory)
    model = LlavaForConditionalGeneration.from_pretrained(directory, dtype="auto")
    _require_known(model.config)
    writer = gguf.GGUFWriter(output, "clip")
    _write_settings(writer, model.config, AutoProcessor.from_pretrained(directory).image_processor)
    blocks = _layers_read(model.config)
    writer.add_vision_block_count(blocks)
    # Without it llama.cpp leaves out one layer more (clip_graph_llava).
    writer.add_array("clip.vision.feature_layer", [blocks])
    for name, tensor in _tensors(model, blocks).items():
        dtype = np.float16 if tensor.ndim > 1 else np.float32
        writer.add_tensor(name, tensor.float().numpy().astype(dtype))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _require_known(config: Any) -> None:
    vision, layer = config.vision_config, config.vision_feature_layer
    if vision.model_type != "clip_vision_model":
        raise ValueError(
            f"the tower is a {vision.model_type!r}: llama.cpp pads every LLaVA's pictures to a "
            "square, as only CLIP's were in training."
        )
    if vision.hidden_act not in ACTIVATIONS or config.projector_hidden_act != "gelu":
        raise ValueError(
            f"llama.cpp knows gelu and quick_gelu in a tower and gelu in a projector, not "
            f"{vision.hidden_act} and {config.projector_hidden_act}."
        )
    if not isinstance(layer, int) or config.vision_feature_select_strategy != "default":
        raise ValueError(
            "llama.cpp reads the patches of one layer, without the class token; this model reads "
            f"{layer} by {config.vision_feature_select_strategy!r}."
        )


def _layers_read(config: Any) -> int:
    """Hidden state n is the output of n layers; of all of them, counted from the end, it is -1."""
    layer = config.vision_feature_layer
    return layer if layer >= 0 else config.vision_config.num_hidden_layers + 1 + layer


def _write_settings(writer: Any, config: Any, pictures: Any) -> None:
    vision = config.vision_config
    writer.add_clip_has_vision_encoder(True)
    writer.add_bool("clip.has_llava_projector", True)
    writer.add_clip_projector_type("mlp")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_vision_image_size(vision.image_size)
    writer.add_vision_patch_size(vision.patch_size)
    writer.add_vision_embedding_length(vision.hidden_size)
    writer.add_vision_feed_forward_length(vision.intermediate_size)
    writer.add_vision_head_count(vision.num_attention_heads)
    writer.add_vision_attention_layernorm_eps(vision.layer_norm_eps)
    writer.add_vision_projection_dim(config.text_config.hidden_size)
    writer.add_vision_use_gelu(ACTIVATIONS[vision.hidden_act])
    writer.add_vision_image_mean(list(pictures.image_mean))
    writer.add_vision_image_std(list(pictures.image_std))


def _tensors(model: LlavaForConditionalGeneration, blocks: int) -> dict[str, torch.Tensor]:
    """What is read of the tower, and the projector, by llama.cpp's names."""
    tower, projector = model.model.vision_tower, model.model.multi_modal_projector
    unread = {id(p) for part in unused_tower_parts(model) for p in part.parameters()}
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.MMPROJ, blocks)
    found = {}
    for name, parameter in tower.named_parameters():
        if id(parameter) not in unread:
            known = names.get_name(f"vision_tower.vision_model.{name}", (".weight", ".bias"))
            found[known] = parameter.detach()
    for name, parameter in projector.named_parameters():
        layer, _, kind = name.partition(".")
        found[f"{PROJECTOR[layer]}.{kind}"] = parameter.detach()
    return found


if __name__ == "__main__":
    main()
