"""How the Llama reads: its tokenizer, its lessons as batches, and gists as embeddings."""

from __future__ import annotations

import copy
import itertools
import random
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from mllm.template import IMAGE_TOKEN, prepare_tokenizer
from scripts.miniature.base_llama import gist_embeddings, lesson_batch, llm_tokenizer
from scripts.miniature.lessons import Lesson, conversation, messages_about


@pytest.fixture(scope="module")
def llama_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    return llm_tokenizer(tmp_path_factory.mktemp("llm"), random.Random(0))


@pytest.fixture(scope="module")
def chat(llama_tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    prepared = copy.deepcopy(llama_tokenizer)
    prepare_tokenizer(prepared, system="")
    return prepared


@pytest.fixture
def embedding(chat: PreTrainedTokenizerBase) -> torch.nn.Embedding:
    torch.manual_seed(0)
    return torch.nn.Embedding(len(chat), 16)


def test_the_llamas_tokenizer_loses_nothing(
    llama_tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    llama_tokenizer.save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    for text in ("What is at the top left?\nAnswer (a) or (b).", "7 zebras, é"):
        assert tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True) == text
    assert tokenizer.eos_token == "</s>"


def test_only_answers_are_labelled(
    chat: PreTrainedTokenizerBase, embedding: torch.nn.Embedding
) -> None:
    rng = random.Random(0)
    lessons = [conversation(rng, progress=0.5) for _ in range(20)]
    batch = lesson_batch(chat, embedding, lessons, blur=0.5)
    assert batch["inputs_embeds"].shape == (*batch["labels"].shape, 16)
    assert (batch["labels"][batch["attention_mask"] == 0] == -100).all()
    for lesson, labels in zip(lessons, batch["labels"].tolist(), strict=True):
        runs = [
            chat.decode(list(run))
            for labelled, run in itertools.groupby(labels, key=lambda label: label != -100)
            if labelled
        ]
        answers = [m["content"] for m in lesson.messages if m["role"] == "assistant"]
        assert [run.strip() for run in runs] == [f"{answer}</s>" for answer in answers]


def test_a_clear_gist_is_the_sum_of_its_words(
    chat: PreTrainedTokenizerBase, embedding: torch.nn.Embedding
) -> None:
    told = ["large plain red circle top left sand", "bottom sand"]
    found = gist_embeddings(chat, embedding, told, blur=0.0)
    for row, text in zip(found, told, strict=True):
        words = torch.tensor(chat(text, add_special_tokens=False).input_ids)
        torch.testing.assert_close(row, embedding.weight[words].sum(dim=0))
    blurred = gist_embeddings(chat, embedding, told, blur=1.0)
    assert (blurred - found).std() > embedding.weight.std() / 2


def test_gists_take_the_places_of_their_image_tokens(
    chat: PreTrainedTokenizerBase, embedding: torch.nn.Embedding
) -> None:
    seen = Lesson(messages_about(IMAGE_TOKEN * 2, [("What is it?", "sand")]), ("red", "top sand"))
    read = Lesson(messages_about("It is sand, and nothing else.", [("What is it?", "sand")]))
    batch = lesson_batch(chat, embedding, [seen, read], blur=0.0)
    ids = chat.apply_chat_template(seen.messages)["input_ids"]
    places = [n for n, token in enumerate(ids) if token == chat.convert_tokens_to_ids(IMAGE_TOKEN)]
    pad = int((batch["attention_mask"][0] == 0).sum()) * (chat.padding_side == "left")
    rows = batch["inputs_embeds"][0, [pad + place for place in places]]
    torch.testing.assert_close(rows, gist_embeddings(chat, embedding, list(seen.gist), blur=0.0))
