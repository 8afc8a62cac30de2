"""The miniature's small Llama: it reads text and gists, and has never seen a picture."""

from __future__ import annotations

import copy
import json
import math
import random
from pathlib import Path
from typing import cast

import sentencepiece
import torch
from torch import nn
from torch.nn import functional as F
from transformers import (
    AutoTokenizer,
    BatchEncoding,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from mllm.template import IMAGE_TOKEN, prepare_tokenizer
from scripts.miniature.lessons import COURSE, Chapter, Lesson, told_in_words
from scripts.miniature.optimise import optimise

SEED, LEARNING_RATE = 0, 2e-3


def llm_tokenizer(directory: Path, rng: random.Random) -> PreTrainedTokenizerFast:
    """A sentencepiece model in Llama's form; digits and newlines fall back to bytes."""
    turns = (turn["content"] for _ in range(3000) for turn in told_in_words(rng).messages)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(f"USER: {line} ASSISTANT:" for t in turns for line in t.split("\n")),
        model_prefix=str(directory / "tokenizer"),
        vocab_size=640,
        model_type="bpe",
        byte_fallback=True,
        hard_vocab_limit=False,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    (directory / "tokenizer.vocab").unlink()
    settings = {"tokenizer_class": "LlamaTokenizer", "pad_token": "<unk>", "legacy": False}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    return AutoTokenizer.from_pretrained(directory)


def gist_embeddings(
    tokenizer: PreTrainedTokenizerFast, embedding: nn.Embedding, gist: list[str], blur: float
) -> torch.Tensor:
    """One vector for each text, the sum of its words' embeddings: [texts, width].

    Blurred, its words are of uneven loudness, and there is noise as loud as a word.
    """
    words = tokenizer(gist, add_special_tokens=False)["input_ids"]
    counts = torch.tensor([0] + [len(some) for some in words])
    word_W = torch.tensor([word for some in words for word in some])
    sum_TD = F.embedding_bag(
        word_W,
        embedding.weight,
        counts.cumsum(0)[:-1],
        mode="sum",
        per_sample_weights=1 - 0.7 * blur * torch.rand(len(word_W)),
    )
    return sum_TD + blur * embedding.weight.detach().std() * torch.randn_like(sum_TD)


def lesson_batch(
    tokenizer: PreTrainedTokenizerFast, embedding: nn.Embedding, lessons: list[Lesson], blur: float
) -> dict[str, torch.Tensor]:
    """Lessons, padded; only answers are labelled.

    What a scene holds is chance, and guessing it teaches nothing.
    """
    encoded = tokenizer.apply_chat_template(
        [lesson.messages for lesson in lessons],
        return_dict=True,
        return_assistant_tokens_mask=True,
        return_tensors="pt",
        padding=True,
    )
    told = dict(cast("BatchEncoding", encoded))
    token_BL, answers_BL = told["input_ids"], told["assistant_masks"]
    slots_BL = token_BL == tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
    inputs_embeds_BLD = embedding(token_BL.masked_fill(slots_BL, 0))
    gist = [text for lesson in lessons for text in lesson.gist]
    if gist:
        fields = gist_embeddings(tokenizer, embedding, gist, blur)
        inputs_embeds_BLD = inputs_embeds_BLD.index_put(slots_BL.nonzero(as_tuple=True), fields)
    return {
        "inputs_embeds": inputs_embeds_BLD,
        "attention_mask": told["attention_mask"],
        "labels": token_BL.masked_fill(answers_BL == 0, -100),
    }


def study(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    chapter: Chapter,
    rng: random.Random,
) -> None:
    """One chapter of the course."""
    steps, embedding = (
        iter(range(chapter.steps)),
        cast("nn.Embedding", model.get_input_embeddings()),
    )

    def loss_of_batch() -> torch.Tensor:
        progress = next(steps) / chapter.steps
        lessons = [chapter.lesson(rng, progress) for _ in range(chapter.documents)]
        blur = chapter.blur[0] + progress * (chapter.blur[1] - chapter.blur[0])
        return model(**lesson_batch(tokenizer, embedding, lessons, blur), use_cache=False).loss

    optimise(model, loss_of_batch, chapter.steps, LEARNING_RATE, warmup_share=0.1)


def build_llm(directory: Path) -> None:
    rng = random.Random(SEED)
    tokenizer = llm_tokenizer(directory, rng)
    torch.manual_seed(SEED)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=math.ceil(len(tokenizer) / 64) * 64,
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=4,
            num_attention_heads=4,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            # As 1/sqrt(width): at the usual 0.02 so narrow a model takes thousands of steps until
            # it begins to look words up in what it has read.
            initializer_range=0.08,
            # Llama 3's: most dimensions hardly turn over so few tokens, and match words by meaning.
            rope_parameters={"rope_type": "default", "rope_theta": 500_000.0},
            bos_token_id=cast("int", tokenizer.bos_token_id),
            eos_token_id=cast("int", tokenizer.eos_token_id),
            pad_token_id=cast("int", tokenizer.pad_token_id),
        )
    )
    chat = copy.deepcopy(tokenizer)
    prepare_tokenizer(chat, system="")
    for chapter in COURSE:
        study(model, chat, chapter, rng)
    model.half().save_pretrained(directory)
