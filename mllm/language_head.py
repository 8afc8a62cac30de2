"""Whether LLaVA computes a language model's logits as the model does itself."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedModel


@torch.inference_mode()
def require_plain_head(text_model: PreTrainedModel, name: str) -> None:
    """`LlavaForConditionalGeneration` multiplies the last hidden state with the output weights and
    does nothing else; a bias, a scale or a soft cap of the language model's own would be lost.

    Raises:
        ValueError: the model's logits for four tokens are not that product.
    """
    token_BL = torch.arange(4)[None]
    hidden_BLW = text_model.get_decoder()(input_ids=token_BL).last_hidden_state
    head = cast("nn.Linear", text_model.get_output_embeddings())
    logits_BLV = text_model(input_ids=token_BL).logits.float()
    if not torch.allclose(F.linear(hidden_BLW, head.weight).float(), logits_BLV, 1e-3, 1e-3):
        raise ValueError(
            f"the language model {name} does more to its logits than a product with its output "
            "weights (a bias, a scale or a soft cap), which LLaVA would leave out; choose another"
        )
