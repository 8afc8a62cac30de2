"""Assembling a stock LLaVA directory from a vision tower and a language model.

No modelling code: `LlavaForConditionalGeneration` with a linear-gelu-linear projector drawn at
random, its `LlavaProcessor` and one chat template. transformers, vLLM and lmms-eval open the
directory as it is.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.llava.modeling_llava import LlavaMultiModalProjector

from mllm.language_head import require_plain_head
from mllm.processor import Selection, build_processor, image_token_count, tower_source
from mllm.row_attention import require_rows_apart

logger = logging.getLogger(__name__)

# An embedding whose row count is a multiple of 64 keeps the tensor cores' fast path.
EMBEDDING_MULTIPLE = 64


def assemble(
    vision_tower: str,
    language_model: str,
    directory: str | Path,
    *,
    system: str | None = None,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> None:
    """Write a LLaVA directory made of `vision_tower`, `language_model` and a fresh projector.

    Args:
        vision_tower: a tower directory (its `vision/` is used), or a CLIP or SigLIP model.
        language_model: any causal language model with a fast tokenizer and a plain output layer.
        directory: where to write. It appears only when complete.
        system: the sentence that opens every conversation; None: the language model's own, or
            Vicuna's if it has no chat template. Vicuna's form does without one for "".
        dtype: of the stored weights.
        seed: of the projector's random weights.

    Raises ValueError if the tower is neither CLIP nor SigLIP or lacks weights, or the tokenizer,
    its chat template or the output layer cannot serve; OSError if a part cannot be opened.
    """
    source, selection = tower_source(vision_tower)
    tower = _load_tower(source, selection, dtype)
    processor = build_processor(vision_tower, language_model, system)
    text_model = AutoModelForCausalLM.from_pretrained(language_model, dtype=dtype)
    require_plain_head(text_model, language_model)
    require_rows_apart(text_model, language_model)
    _grow_embeddings(text_model, len(processor.tokenizer))
    model = _join(selection, tower, text_model, processor, seed)
    _write(model, processor, Path(directory))
    logger.info("%s: %d image tokens a picture", directory, image_token_count(model.config))


def _load_tower(source: str, selection: Selection, dtype: torch.dtype) -> PreTrainedModel:
    try:
        loaded: Any = selection.tower_class.from_pretrained(
            source, dtype=dtype, output_loading_info=True
        )
    except (OSError, SafetensorError) as error:
        raise ValueError(
            f"{source} holds no weights of a vision tower that can be read ({error}): export or "
            "copy it again"
        ) from error
    tower, report = loaded
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise ValueError(
            f"{source} lacks {len(missing)} weights of its vision tower, first {missing[0]}: "
            "export it again, LLaVA would see through random weights"
        )
    return tower


def _grow_embeddings(model: PreTrainedModel, token_count: int) -> None:
    """Make room for `token_count` tokens; new rows start at the mean of the old ones.

    A mean row gives a new token a mean logit, where a random row could outshout a trained one.
    """
    rows = cast("nn.Embedding", model.get_input_embeddings()).num_embeddings
    if token_count <= rows:
        return
    model.resize_token_embeddings(
        token_count, pad_to_multiple_of=EMBEDDING_MULTIPLE, mean_resizing=False
    )
    with torch.no_grad():
        for getter in (model.get_input_embeddings, model.get_output_embeddings):
            layer = cast("nn.Embedding | nn.Linear", getter())
            layer.weight[rows:] = layer.weight[:rows].float().mean(0).to(layer.weight.dtype)


def _join(
    selection: Selection,
    tower: PreTrainedModel,
    text_model: PreTrainedModel,
    processor: LlavaProcessor,
    seed: int,
) -> LlavaForConditionalGeneration:
    """One LLaVA around the loaded parts, with no copy of their weights."""
    tokenizer = cast("PreTrainedTokenizerBase", processor.tokenizer)
    text_model.config.pad_token_id = tokenizer.pad_token_id
    config = joined_config(selection, tower.config, text_model.config, processor.image_token_id)
    with torch.device("meta"):
        model = LlavaForConditionalGeneration(config)
    model.model.vision_tower = tower
    model.model.language_model = text_model.get_decoder()
    model.lm_head = cast("nn.Linear", text_model.get_output_embeddings())
    model.model.multi_modal_projector = _new_projector(config, tower.dtype, seed)
    model.generation_config = _greedy(text_model, tokenizer)
    return model


def joined_config(
    selection: Selection, tower: PreTrainedConfig, text: PreTrainedConfig, image_token: int
) -> LlavaConfig:
    """Of the LLaVA that is made of a tower and a language model of these."""
    config = LlavaConfig(
        vision_config=cast("Any", tower),
        text_config=cast("Any", text),
        image_token_index=image_token,
        projector_hidden_act="gelu",
        # LLaVA-1.5: the last layer of CLIP serves its class token, the patches of the one before
        # tell more.
        vision_feature_layer=-2,
        vision_feature_select_strategy=selection.strategy,
        tie_word_embeddings=text.tie_word_embeddings,
    )
    config.image_seq_length = image_token_count(config)
    return config


def _new_projector(config: LlavaConfig, dtype: torch.dtype, seed: int) -> LlavaMultiModalProjector:
    """linear-gelu-linear with torch's own initialisation, as LLaVA-1.5 draws its mlp2x_gelu."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlavaMultiModalProjector(config).to(dtype)


def _greedy(text_model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> GenerationConfig:
    """Greedy decoding with every stop token of the language model.

    Built anew: Vicuna's own file holds a temperature without `do_sample`, which makes every later
    save_pretrained raise (LLaVA #1144, transformers #29665).
    """
    declared: Any = (text_model.generation_config or GenerationConfig()).eos_token_id
    stops = {cast("int", tokenizer.eos_token_id)}
    if declared is not None:
        stops.update(declared if isinstance(declared, list) else [declared])
    return GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=sorted(stops),
        pad_token_id=tokenizer.pad_token_id,
        do_sample=False,
    )


def _write(model: PreTrainedModel, processor: LlavaProcessor, directory: Path) -> None:
    """Save beside `directory` and rename, so that an interrupted run leaves no half checkpoint."""
    partial = directory.with_name(directory.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    model.save_pretrained(partial, state_dict=_published_names(model))
    processor.save_pretrained(partial)
    shutil.rmtree(directory, ignore_errors=True)
    partial.rename(directory)


def _published_names(model: PreTrainedModel) -> dict[str, Tensor]:
    """Weights, the tower's by the names that LLaVAs of the hub have.

    transformers 5 has no level `vision_model` in its towers, and reads both; transformers 4, vLLM
    and llama.cpp read the published names alone. What is loaded with them is saved with them again.
    """
    tower = "model.vision_tower."
    return {
        name.replace(tower, f"{tower}vision_model.", 1): weight
        for name, weight in model.state_dict().items()
    }
