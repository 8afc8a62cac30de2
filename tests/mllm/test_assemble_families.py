"""Every family of language models becomes a stock LLaVA that reads text as the model itself did."""

import pytest
import torch
from transformers import (
    AutoProcessor,
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaForConditionalGeneration,
    MistralConfig,
    MistralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from mllm.assemble import assemble
from mllm.row_attention import ROWS
from tests.mllm.families import FAMILIES, write_tokenizer
from tests.tiny_llava import picture

SIZES = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "max_position_embeddings": 512, "pad_token_id": 0,
}  # fmt: skip
MODELS = {
    "llama2": (LlamaForCausalLM, LlamaConfig),
    "llama3": (LlamaForCausalLM, LlamaConfig),
    "mistral": (MistralForCausalLM, MistralConfig),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config),
    "smollm2": (LlamaForCausalLM, LlamaConfig),
    "phi3": (Phi3ForCausalLM, Phi3Config),
    "phi4": (Phi3ForCausalLM, Phi3Config),
    "gemma2": (Gemma2ForCausalLM, Gemma2Config),
    "gemma3": (Gemma3ForCausalLM, Gemma3TextConfig),
}
WINDOWS = {name: {"sliding_window": 4} for name in ("mistral", "phi3", "gemma2", "gemma3")}
HEADS = {"qwen3": 16, "gemma2": 16, "gemma3": 16}


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture
def language_model(family, tmp_path):
    tokenizer = write_tokenizer(FAMILIES[family], tmp_path / "llm")
    build, config = MODELS[family]
    torch.manual_seed(0)
    head = {"head_dim": HEADS[family]} if family in HEADS else {}
    model = build(
        config(
            **SIZES,
            **head,
            **WINDOWS.get(family, {}),
            vocab_size=len(tokenizer),
            bos_token_id=1,
            eos_token_id=2,
        )
    ).eval()
    model.save_pretrained(tmp_path / "llm")
    return model


def test_a_family_reads_text_and_pictures(family, language_model, parts, tmp_path):
    assemble(str(parts[0]), str(tmp_path / "llm"), tmp_path / "mllm")
    model, report = LlavaForConditionalGeneration.from_pretrained(
        tmp_path / "mllm", output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    processor = AutoProcessor.from_pretrained(tmp_path / "mllm")
    assert processor.image_token == FAMILIES[family].image_token
    # A reserved token has its row already.
    new_row = FAMILIES[family].image_token == "<image>"
    rows = language_model.get_input_embeddings().num_embeddings
    assert (model.lm_head.weight.shape[0] > rows) == new_row
    stops = model.generation_config.eos_token_id
    assert {2, processor.tokenizer.eos_token_id} <= set(stops)

    question = {"role": "user", "content": [{"type": "image", "image": picture(0)}]}
    question["content"].append({"type": "text", "text": "what is"})
    told = processor.apply_chat_template(
        [question], tokenize=True, return_dict=True, return_tensors="pt", add_generation_prompt=True
    )
    assert (told["input_ids"] == processor.image_token_id).sum() == 4
    with torch.no_grad():
        assert torch.isfinite(model.eval()(**told).logits).all()
        token_BL = told["input_ids"][told["input_ids"] != processor.image_token_id][None]
        logits_BLV = model(input_ids=token_BL).logits[..., :rows]
        own_BLV = language_model(input_ids=token_BL).logits
    if family == "gemma2":  # its soft cap keeps the order, and is all that is left out
        logits_BLV = 30 * torch.tanh(logits_BLV / 30)
    torch.testing.assert_close(logits_BLV, own_BLV, atol=1e-5, rtol=1e-5)


def test_rows_of_a_family_do_not_see_each_other(family, language_model, parts, tmp_path):
    """As with a mask of blocks; Mistral's, Phi's and Gemma's windows are shorter than the rows."""
    assemble(str(parts[0]), str(tmp_path / "llm"), tmp_path / "mllm")
    told = []
    for attention in ("eager", ROWS):
        model = LlavaForConditionalGeneration.from_pretrained(
            tmp_path / "mllm", attn_implementation={"text_config": attention}
        ).train()
        model.activation_checkpointing_enable()
        token_BL = torch.arange(3, 33)[None]
        lengths = [12, 1, 17]
        position_BL = torch.cat([torch.arange(length) for length in lengths])[None]
        logits = model(
            input_ids=token_BL, position_ids=position_BL, row_lengths=lengths, use_cache=False
        ).logits
        logits.square().mean().backward()
        told.append((logits, model.get_input_embeddings().weight.grad))
        alone = {"input_ids": token_BL[:, 13:], "row_lengths": lengths[2:], "use_cache": False}
        torch.testing.assert_close(logits[:, 13:], model(**alone).logits, atol=1e-5, rtol=1e-5)
    for ours, theirs in zip(*told, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
