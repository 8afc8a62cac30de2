"""Any chat model of transformers, asked in batches."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from mllm.answerer import TextAnswerer, question_message, without_thoughts
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


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        (" Correct.\n", "Correct."),
        ("<think>\nIs it correct or incorrect?\n</think>\n\nincorrect\n", "incorrect"),
        ("<think>\n\n</think>\n\nYes", "Yes"),
        ("It could be correct.</think> incorrect", "incorrect"),  # begun by the template
        ("<think>a</think><think>b</think>", ""),
        ("A tag like <think> starts thoughts.", "A tag like <think> starts thoughts."),
    ],
)
def test_thoughts_are_no_part_of_an_answer(reply, answer):
    assert without_thoughts(reply) == answer


@pytest.mark.parametrize(
    "reply", ["<think>\nIs it correct or", "\n<think>", "<think>a</think><think>"]
)
def test_thoughts_without_an_end_are_no_answer(reply):
    with pytest.raises(ValueError, match="still thinking"):
        without_thoughts(reply)


def test_a_template_that_begins_the_thoughts(language_model, monkeypatch):
    model, tokenizer = language_model
    tokenizer.chat_template = TEMPLATE + "{{ ' <think>\n' }}"
    answerer = TextAnswerer(model, tokenizer)
    said = {"one": "it is correct or", "two": "hm </think> incorrect"}
    for question, reply in said.items():
        monkeypatch.setattr(
            answerer, "_generate",
            lambda inputs, reply=reply, **_: torch.cat(
                [inputs["input_ids"], tokenizer(reply, return_tensors="pt")["input_ids"]], dim=1
            ),
        )  # fmt: skip
        if question == "one":
            with pytest.raises(ValueError, match="'one': it was still thinking"):
                answerer.answer_batch([(None, question)])
        else:
            assert answerer.answer_batch([(None, question)]) == ["incorrect"]
