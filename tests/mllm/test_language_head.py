"""Language models whose logits LLaVA would compute otherwise are refused."""

import pytest
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PhiConfig,
    PhiForCausalLM,
)

from mllm.language_head import require_plain_head

SIZES = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 2,
}  # fmt: skip


def biased_phi():
    model = PhiForCausalLM(PhiConfig(**SIZES))
    torch.nn.init.normal_(model.lm_head.bias)
    return model


@pytest.mark.parametrize(
    "build",
    [
        biased_phi,
        lambda: GraniteForCausalLM(GraniteConfig(**SIZES, logits_scaling=8.0)),
    ],
)
def test_a_bias_and_a_scale_are_refused(build):
    with pytest.raises(ValueError, match=r"language model some/llm does more to its logits"):
        require_plain_head(build().eval(), "some/llm")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_plain_head_passes(dtype):
    require_plain_head(LlamaForCausalLM(LlamaConfig(**SIZES)).to(dtype).eval(), "some/llm")


def test_a_soft_cap_passes_with_a_warning_for_it_keeps_the_order(caplog):
    model = Gemma2ForCausalLM(Gemma2Config(**SIZES, head_dim=16, final_logit_softcapping=3.0))
    model.get_output_embeddings().weight.data.mul_(50)
    require_plain_head(model.eval(), "some/gemma")
    assert "some/gemma caps its logits at 3" in caplog.text
