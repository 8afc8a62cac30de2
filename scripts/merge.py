"""Merge adapters that stage 4 trained into a plain LLaVA directory.

    python scripts/merge.py out/clip-in/mllm-lora out/clip-in/mllm-merged

Merging is done in fp32 on the CPU, and the weights are written in the precision of the base. A base
that was held in 4 bits becomes what those stood for: it is that which the adapters were trained on.
The merged directory must give the logits that base and adapters give, or nothing is left behind.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import AutoProcessor, LlavaConfig, LlavaForConditionalGeneration

from mllm.adapters import has_adapters, merge, open_adapted, read_base
from mllm.processor import image_token_count

# Of logits, relative to the largest: rounding of fp32 sums, of bf16 weights, and of the kernels
# that compute with 4 bits.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 2e-3}
OF_4_BITS = 2e-2


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("adapters", type=Path, help="a directory that stage 4 wrote with --lora")
    parser.add_argument("output", type=Path, help="where the LLaVA directory goes")
    flags = parser.parse_args()
    try:
        difference = merge_into(flags.adapters, flags.output)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print(f"{flags.output}: logits differ by {difference:.1e} of the largest.")


def merge_into(adapters: Path, output: Path) -> float:
    """Write the merged directory. Returns how far its logits are from those of base and adapters,
    relative to the largest.

    Raises ValueError if there is nothing to merge, `output` is taken, or the logits are too far.
    """
    if not has_adapters(adapters):
        raise ValueError(f"{adapters} holds no adapters: what is trained in full is whole already.")
    if output.exists():
        raise ValueError(f"{output} is there already: remove it, or choose another name.")
    adapted = open_adapted(adapters, dtype=torch.float32, device_map="cpu")
    told = read_base(adapters)
    config = LlavaConfig.from_pretrained(told["model"])
    expected = _logits(adapted, config)
    del adapted  # two models in fp32 are as many as need be in memory
    aside = output.with_name(f"{output.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    dtype = cast("torch.dtype", config.dtype or torch.float32)
    cast("Any", merge(adapters)).to(dtype).save_pretrained(aside)
    AutoProcessor.from_pretrained(adapters).save_pretrained(aside)
    written = LlavaForConditionalGeneration.from_pretrained(aside, dtype=torch.float32)
    difference = float((_logits(written, config) - expected).abs().max() / expected.abs().max())
    allowed = max(TOLERANCE[dtype], OF_4_BITS if told["quantized"] else 0)
    if difference > allowed:
        shutil.rmtree(aside)
        raise ValueError(
            f"merged weights give other logits than base and adapters: off by {difference:.1e} of "
            f"the largest, {allowed:.0e} is allowed. Nothing is written; the adapters still serve."
        )
    aside.rename(output)
    return difference


@torch.inference_mode()
def _logits(model: nn.Module, config: LlavaConfig) -> Tensor:
    """Of a picture of noise among some tokens."""
    side = cast("Any", config.vision_config).image_size
    random = torch.Generator().manual_seed(0)
    picture = torch.full((image_token_count(config),), config.image_token_id)
    words = torch.arange(4)  # special tokens of most, which serve as well
    token_BL = torch.cat([words, picture, words])[None]
    pixels_BCHW = torch.randn(1, 3, side, side, generator=random)
    return model.eval()(input_ids=token_BL, pixel_values=pixels_BCHW).logits


if __name__ == "__main__":
    main()
