"""Whether LLaVA computes a language model's logits as the model does itself."""

from __future__ import annotations

import logging
from typing import cast

import torch
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedModel

logger = logging.getLogger(__name__)


@torch.inference_mode()
def require_plain_head(text_model: PreTrainedModel, name: str) -> None:
    """`LlavaForConditionalGeneration` multiplies the last hidden state with the output weights and
    does nothing else; a bias or a scale of the language model's own would be lost.

    A soft cap (Gemma 2) is lost too, with a warning: it keeps the order of the logits, so greedy
    answers stay the same, and what is trained afterwards is trained without it.

    Raises:
        ValueError: the model's logits for four tokens are not that product.
    """
    token_BL = torch.arange(4)[None]
    hidden_BLW = text_model.get_decoder()(input_ids=token_BL).last_hidden_state
    head = cast("nn.Linear", text_model.get_output_embeddings())
    logits_BLV = text_model(input_ids=token_BL).logits.float()
    plain_BLV = F.linear(hidden_BLW, head.weight).float()
    cap = text_model.config.to_dict().get("final_logit_softcapping")
    if cap is not None:
        logger.warning(
            "%s caps its logits at %g, LLaVA does not: their order is the same.", name, cap
        )
        plain_BLV = cap * torch.tanh(plain_BLV / cap)
    if not torch.allclose(plain_BLV, logits_BLV, 1e-3, 1e-3):
        raise ValueError(
            f"the language model {name} does more to its logits than a product with its output "
            "weights (a bias or a scale), which LLaVA would leave out; choose another"
        )
