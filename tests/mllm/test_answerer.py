"""Any chat model of transformers, asked in batches."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from mllm.answerer import TextAnswerer, question_message
from mllm.chat import Chat
from tests.tiny_llava import picture

TEMPLATE = (
    "{{ bos_token }}{% for turn in messages %}{{ 'USER: ' + turn['content'] }}{% endfor %}"
    "{{ ' ASSISTANT:' if add_generation_prompt }}"
)


@pytest.fixture(scope="module")
def language_model(parts):
    """(model, tokenizer): a Llama whose tokenizer has neither a template nor a pad token."""
    return AutoModelForCausalLM.from_pretrained(parts[2]), AutoTokenizer.from_pretrained(parts[2])


def test_a_batch_of_texts_is_answered_as_plain_transformers_does_one(language_model):
    model, tokenizer = language_model
    tokenizer.chat_template = TEMPLATE
    questions = ["what is in the picture", "yes", "how many red objects are there"]
    together = TextAnswerer(model, tokenizer).answer_batch(
        [(None, question) for question in questions], max_new_tokens=8
    )
    for question, answer in zip(questions, together, strict=True):
        prompt = f"<s>USER: {question} ASSISTANT:"
        ids = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")["input_ids"]
        start = ids.shape[1]
        with torch.no_grad():
            for _ in range(8):  # greedy, one token after the other
                best = model(ids).logits[0, -1].argmax()
                ids = torch.cat([ids, best.reshape(1, 1)], dim=1)
                if best == tokenizer.eos_token_id:
                    break
        said = tokenizer.decode(ids[0, start:], skip_special_tokens=True)
        assert answer == said.strip()
        assert answer


def test_a_model_without_a_template_is_refused(language_model):
    model, tokenizer = language_model
    tokenizer.chat_template = None
    with pytest.raises(ValueError, match=r"no chat_template\.jinja: give a model"):
        TextAnswerer(model, tokenizer)


def test_settings_of_the_checkpoint_draw_nothing(llava, monkeypatch):
    chat = Chat(llava, device="cpu")
    greedy = chat.answer(picture(1), "what is in the picture", max_new_tokens=12)
    monkeypatch.setattr(chat.model.generation_config, "do_sample", True)
    monkeypatch.setattr(chat.model.generation_config, "temperature", 50.0)
    assert chat.answer(picture(1), "what is in the picture", max_new_tokens=12) == greedy


def test_the_picture_comes_first():
    kinds = [part["type"] for part in question_message(picture(1), "what")["content"]]
    assert kinds == ["image", "text"]
