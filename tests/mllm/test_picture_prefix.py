"""Questions that share a picture: it is looked at once, and answers are those of the plain way."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    AutoProcessor,
    CLIPVisionConfig,
    Gemma2Config,
    Lfm2Config,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    MistralConfig,
    PixtralImageProcessor,
    PixtralProcessor,
    PixtralVisionConfig,
    Qwen2Config,
)

from mllm.picture_prefix import PrefixAnswerer
from tests.tiny_llava import IMAGE_SIZE, PATCH_SIZE, picture

NEW = 10
SHAPE = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 16, "max_position_embeddings": 512,
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
# Language model, and whether its cache can be shared: all see the whole conversation but those
# whose window is shorter than it, and those that keep a running state instead of tokens.
LANGUAGE_MODELS = {
    "llama": (LlamaConfig(**SHAPE), True),
    "qwen2": (Qwen2Config(**SHAPE), True),
    "gemma2": (Gemma2Config(**SHAPE, sliding_window=300, query_pre_attn_scalar=16), True),
    "mistral": (MistralConfig(**SHAPE, sliding_window=300), True),
    "mistral-narrow": (MistralConfig(**SHAPE, sliding_window=20), False),
    "gemma2-narrow": (Gemma2Config(**SHAPE, sliding_window=20, query_pre_attn_scalar=16), False),
    "lfm2": (
        Lfm2Config(**SHAPE, layer_types=["conv", "full_attention"] * 2, block_ff_dim=64), False,
    ),
}  # fmt: skip


@pytest.fixture(params=LANGUAGE_MODELS)
def family(request):
    return request.param


@pytest.fixture
def answerer(family, llava) -> PrefixAnswerer:
    """Weights that draw strongly: what comes next depends on all that went before."""
    text = LANGUAGE_MODELS[family][0]
    processor = AutoProcessor.from_pretrained(llava)
    text.vocab_size = len(processor.tokenizer)
    tower = CLIPVisionConfig(
        hidden_size=24, intermediate_size=48, num_hidden_layers=3, num_attention_heads=2,
        image_size=IMAGE_SIZE, patch_size=PATCH_SIZE,
    )  # fmt: skip
    model = drawn(
        LlavaConfig(
            vision_config=tower, text_config=text, image_token_index=processor.image_token_id
        )
    )
    return PrefixAnswerer(model, processor, processor.tokenizer)


def drawn(config: LlavaConfig) -> LlavaForConditionalGeneration:
    torch.manual_seed(3)
    model = LlavaForConditionalGeneration(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
    return model


@pytest.fixture
def pixtral(llava) -> PrefixAnswerer:
    """Pixtral-12B in small: its processor writes marks of its own between a picture's rows, and
    after the picture, that its template does not have."""
    tokenizer = AutoProcessor.from_pretrained(llava).tokenizer
    image, row_end, end = marks = ["[IMG]", "[IMG_BREAK]", "[IMG_END]"]
    tokenizer.add_special_tokens({"extra_special_tokens": marks})
    patch = {"height": PATCH_SIZE, "width": PATCH_SIZE}
    processor = PixtralProcessor(
        PixtralImageProcessor(size={"longest_edge": 2 * PATCH_SIZE}, patch_size=patch),
        tokenizer, patch_size=PATCH_SIZE, spatial_merge_size=1,
        image_token=image, image_break_token=row_end, image_end_token=end,
        chat_template="<s>{% for m in messages %}USER: {% for item in m['content'] %}"
        "{{ item['text'] if item['type'] == 'text' else '[IMG]' }}{% endfor %} ASSISTANT:"
        "{% endfor %}",
    )  # fmt: skip
    tower = PixtralVisionConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        image_size=2 * PATCH_SIZE, patch_size=PATCH_SIZE,
    )  # fmt: skip
    model = drawn(
        LlavaConfig(
            vision_config=tower, text_config=LlamaConfig(**SHAPE, vocab_size=len(tokenizer)),
            image_token_index=processor.image_token_id,
            vision_feature_layer=-1, vision_feature_select_strategy="full",
        )
    )  # fmt: skip
    return PrefixAnswerer(model, processor, tokenizer)


@pytest.fixture
def looks(answerer) -> list[int]:
    """How many pictures went through the tower, call by call."""
    counts = []
    answerer.model.model.vision_tower.register_forward_pre_hook(
        lambda _, inputs: counts.append(len(inputs[0]))
    )
    return counts


def alone(answerer, image, question) -> str:
    """Greedy by hand: one question, the whole prompt gone over anew for each token."""
    content = [{"type": "text", "text": question}]
    if image is not None:
        content.insert(0, {"type": "image", "image": image})
    inputs = dict(
        answerer.processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=True,
            return_dict=True, return_tensors="pt",
        )
    )  # fmt: skip
    del inputs["attention_mask"]
    said = []
    with torch.no_grad():
        for _ in range(NEW):
            best = answerer.model(**inputs, use_cache=False).logits[0, -1].argmax()
            said.append(int(best))
            if best == answerer.tokenizer.eos_token_id:
                break
            inputs["input_ids"] = torch.cat([inputs["input_ids"], best.reshape(1, 1)], dim=1)
    return answerer.tokenizer.decode(said, skip_special_tokens=True).strip()


def test_answers_are_those_of_each_question_alone(answerer, family, looks):
    red, blue = picture(1), picture(2, 40, 24)
    pairs = [
        (red, "what is in the picture"),
        (None, "how many objects are there"),
        (blue, "is there a red circle a blue square a red square or no circle in the picture"),
        (red, "yes"),
        (blue, "what is in the picture"),
        (None, "yes"),
        (red, "how many objects are there"),
    ]
    together = answerer.answer_batch(pairs, max_new_tokens=NEW)
    assert looks == [2 if LANGUAGE_MODELS[family][1] else 5]
    assert together == [alone(answerer, *pair) for pair in pairs]
    assert len(set(together)) > 3, "nothing is told apart"


@pytest.mark.parametrize("family", ["llama"])
def test_a_picture_of_several_batches_is_looked_at_once(answerer, looks):
    image, other = picture(1), picture(1)
    for question in ("what", "yes", "how many objects"):
        said = answerer.answer_batch([(image, question)] * 2, max_new_tokens=NEW)
        assert len(looks) == 1
        assert said == [alone(answerer, image, question)] * 2
        looks[1:] = []
    answerer.answer_batch([(other, "what")], max_new_tokens=NEW)
    assert looks == [1, 1]


@pytest.mark.parametrize("family", ["llama"])
def test_a_template_that_puts_the_question_first_is_asked_the_plain_way(answerer, looks):
    answerer.processor.chat_template = (
        "{% for m in messages %}{% for kind in ('text', 'image') %}{% for item in m['content'] %}"
        "{% if item['type'] == kind %}{{ item['text'] if kind == 'text' else '<image>' }}"
        "{% endif %}{% endfor %}{% endfor %}{% endfor %} ASSISTANT:"
    )
    pairs = [(picture(1), "what"), (picture(1), "how many objects")]
    together = answerer.answer_batch(pairs, max_new_tokens=NEW)
    assert looks == [2]
    assert together == [alone(answerer, *pair) for pair in pairs]


@pytest.mark.parametrize("family", ["llama"])
def test_a_question_that_writes_the_picture_s_token_is_refused(answerer):
    image = picture(1)
    with pytest.raises(ValueError, match=r"(?i)image"):
        answerer.answer_batch([(image, "what"), (image, "what is <image>")], max_new_tokens=NEW)


def test_a_processor_that_writes_more_than_the_picture_is_asked_the_plain_way(pixtral):
    red, wide = picture(1, 32, 32), picture(2, 32, 16)
    for pairs in (
        [(red, "what is in the picture"), (red, "how many objects are there")],
        [(red, "what"), (wide, "yes"), (None, "how many objects")],
    ):
        together = pixtral.answer_batch(pairs, max_new_tokens=NEW)
        assert together == [alone(pixtral, *pair) for pair in pairs]
        assert len(set(together)) > 1, "nothing is told apart"
