"""Models of other kinds than LLaVA, opened by their directory and asked in batches."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessor,
    LlavaNextProcessor,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
)

from mllm.answerer import Answerer
from mllm.chat import Chat, open_answerer
from tests.tiny_llava import IMAGE_SIZE, PATCH_SIZE, picture

NEW = 10
TEXT = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "max_position_embeddings": 512, "bos_token_id": 1, "eos_token_id": 2,
    "pad_token_id": 0,
}  # fmt: skip


def llava_next(tokenizer):
    """Pictures of several shapes are several numbers of tokens."""
    grids = [[IMAGE_SIZE, 2 * IMAGE_SIZE], [2 * IMAGE_SIZE, IMAGE_SIZE]]
    square = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    config = LlavaNextConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=24, intermediate_size=48, num_hidden_layers=3, num_attention_heads=2,
            image_size=IMAGE_SIZE, patch_size=PATCH_SIZE,
        ),
        text_config=LlamaConfig(**TEXT, vocab_size=len(tokenizer)),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"), image_grid_pinpoints=grids,
    )  # fmt: skip
    processor = LlavaNextProcessor(
        LlavaNextImageProcessor(
            size={"shortest_edge": IMAGE_SIZE}, crop_size=square, image_grid_pinpoints=grids
        ),
        tokenizer, patch_size=PATCH_SIZE, vision_feature_select_strategy="default",
        num_additional_image_tokens=1, chat_template=tokenizer.chat_template,
    )  # fmt: skip
    return LlavaNextForConditionalGeneration(config), processor


def qwen2_vl(tokenizer):
    """Positions of three axes, which a prompt's pictures decide."""
    tokenizer.add_special_tokens(
        {"extra_special_tokens": ["<|image_pad|>", "<|video_pad|>", "<|vision_start|>"]}
    )
    ids = tokenizer.convert_tokens_to_ids(["<|image_pad|>", "<|video_pad|>", "<|vision_start|>"])
    rope = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10_000.0}
    config = Qwen2VLConfig(
        vision_config={
            "depth": 2, "embed_dim": 24, "hidden_size": 32, "num_heads": 2, "patch_size": 4,
            "mlp_ratio": 2,
        },
        text_config={**TEXT, "vocab_size": len(tokenizer), "rope_parameters": rope},
        image_token_id=ids[0], video_token_id=ids[1], vision_start_token_id=ids[2],
    )  # fmt: skip
    size = {"shortest_edge": 16 * 16, "longest_edge": 32 * 32}
    template = tokenizer.chat_template.replace("<image>", "<|vision_start|><|image_pad|>")
    processor = Qwen2VLProcessor(
        Qwen2VLImageProcessor(patch_size=4, size=size), tokenizer,
        Qwen2VLVideoProcessor(patch_size=4, size=size), chat_template=template,
    )  # fmt: skip
    return Qwen2VLForConditionalGeneration(config), processor


@pytest.fixture(params=[llava_next, qwen2_vl], ids=lambda made: made.__name__)
def directory(request, llava, tmp_path) -> Path:
    torch.manual_seed(3)
    model, processor = request.param(AutoProcessor.from_pretrained(llava).tokenizer)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def alone(directory: Path, image, question) -> str:
    """Plain transformers, one question."""
    model = AutoModelForImageTextToText.from_pretrained(directory)
    processor = AutoProcessor.from_pretrained(directory)
    content = [{"type": "text", "text": question}]
    if image is not None:
        content.insert(0, {"type": "image", "image": image})
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=True,
        return_dict=True, return_tensors="pt",
    )  # fmt: skip
    out = model.generate(**inputs, max_new_tokens=NEW, do_sample=False)
    return processor.decode(out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def test_a_batch_is_answered_as_plain_transformers_does_one(directory):
    answerer = open_answerer(directory, "cpu")
    assert type(answerer) is Answerer
    wide, high = picture(1, 40, 20), picture(2, 20, 44)
    pairs = [
        (wide, "what is in the picture"),
        (high, "is there a red circle or a blue square in the picture"),
        (wide, "yes"),
        (None, "how many objects are there"),
    ]
    together = answerer.answer_batch(pairs, max_new_tokens=NEW)
    assert together == [alone(directory, *pair).strip() for pair in pairs]
    assert len(set(together)) > 2, "nothing is told apart"


def test_a_llava_shares_its_pictures(llava):
    assert isinstance(open_answerer(llava, "cpu"), Chat)


def test_what_sees_nothing_is_refused(parts):
    with pytest.raises(ValueError, match="'llama' model, which transformers does not know as a vi"):
        open_answerer(parts[2])
