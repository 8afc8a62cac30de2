"""The base models in the repository: small, opened by everybody's loaders, and what they know."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    CLIPVisionModel,
    LlamaForCausalLM,
    PreTrainedTokenizerBase,
)

from mllm.template import prepare_tokenizer
from scripts.miniature.language import brief_caption
from scripts.miniature.lessons import notes
from scripts.miniature.questions import CHOICE_KINDS, YES_NO_SUFFIX, ask_choice, ask_existence
from scripts.miniature.render import PICTURE_SIZE, render
from scripts.miniature.world import BACKGROUNDS, SHAPES, SURFACES, Scene, Thing, random_scene_of
from tests.scripts.miniature import oracle
from vision_tower.towers import Tower, load_tower

MODELS = Path(__file__).parents[3] / "scripts" / "miniature" / "models"
MEGABYTE = 2**20


@pytest.fixture(scope="module")
def tower() -> Tower:
    return load_tower(str(MODELS / "clip")).float().eval()


def test_together_they_have_at_most_16_megabytes() -> None:
    assert sum(path.stat().st_size for path in MODELS.rglob("*")) <= 16 * MEGABYTE
    weights = {path.name for path in MODELS.rglob("*") if path.stat().st_size > MEGABYTE / 2}
    assert all(name.endswith(".safetensors") for name in weights)


def test_the_clip_opens_in_open_clip_and_in_transformers(tower: Tower) -> None:
    assert tower.context_length == 77
    vision = CLIPVisionModel.from_pretrained(MODELS / "clip" / "vision")
    assert vision.config.image_size == PICTURE_SIZE


@torch.no_grad()
def chosen(tower: Tower, scenes: list[Scene], texts: list[str]) -> list[int]:
    """For each scene the number of the text that fits its picture best."""
    generator = np.random.default_rng(0)
    pixels = torch.stack([tower.preprocess(render(scene, generator)) for scene in scenes])
    image_BD = tower.encode_image(pixels, normalize=True)
    text_TD = tower.encode_text(tower.tokenizer(texts), normalize=True)
    return (image_BD @ text_TD.T).argmax(dim=1).tolist()


def test_the_clip_knows_what_things_are_and_not_how_they_look(tower: Tower) -> None:
    """Its captions name shapes, and no surface, ever: it is blind to that as CLIP is to detail."""
    rng = random.Random(0)
    scenes = [
        Scene(rng.choice(BACKGROUNDS), (Thing(4, shape, "red", "large", surface),))
        for shape in SHAPES
        for surface in SURFACES
        for _ in range(8)
    ]
    shapes = chosen(tower, scenes, [f"A {shape}." for shape in SHAPES])
    shape_hits = [SHAPES[n] == s.things[0].shape for s, n in zip(scenes, shapes, strict=True)]
    assert np.mean(shape_hits) > 3 / len(SHAPES)
    hits = [
        SURFACES[n] == scene.things[0].surface
        for shape in SHAPES
        for scene, n in zip(
            [s for s in scenes if s.things[0].shape == shape],
            chosen(
                tower,
                [s for s in scenes if s.things[0].shape == shape],
                [f"A {surface} {shape}." for surface in SURFACES],
            ),
            strict=True,
        )
    ]
    assert np.mean(hits) < 2 / len(SURFACES)


@pytest.fixture(scope="module")
def llama() -> tuple[LlamaForCausalLM, PreTrainedTokenizerBase]:
    tokenizer = AutoTokenizer.from_pretrained(MODELS / "llm", padding_side="left")
    prepare_tokenizer(tokenizer, system="")
    model = AutoModelForCausalLM.from_pretrained(MODELS / "llm", dtype=torch.float32)
    return model.eval(), tokenizer


@torch.no_grad()
def said_about(
    llama: tuple[LlamaForCausalLM, PreTrainedTokenizerBase], texts: list[str]
) -> list[str]:
    model, tokenizer = llama
    inputs = tokenizer.apply_chat_template(
        [[{"role": "user", "content": text}] for text in texts],
        add_generation_prompt=True,
        return_dict=True,
        return_tensors="pt",
        padding=True,
    )
    output = model.generate(**inputs, max_new_tokens=6, do_sample=False)
    answers = output[:, inputs["input_ids"].shape[1] :]
    return [told.strip() for told in tokenizer.batch_decode(answers, skip_special_tokens=True)]


@pytest.mark.parametrize("words", [brief_caption, notes])
def test_the_llama_reads_how_many_there_are_and_whether_a_thing_is_there(
    llama: tuple[LlamaForCausalLM, PreTrainedTokenizerBase],
    words: Callable[[Scene, random.Random], str],
) -> None:
    """Chance is one in five and one in two; the answers come from an independent reading."""
    rng = random.Random(0)
    scenes = [random_scene_of(rng, held_out=True) for _ in range(64)]
    for question_of, least in (
        (lambda: "How many objects are there?", 0.6),
        (lambda: ask_existence(rng.choice(SHAPES)), 0.8),
    ):
        questions = [question_of() for _ in scenes]
        told = said_about(
            llama,
            [
                f"{words(scene, rng)}\n{question}{YES_NO_SUFFIX}"
                for scene, question in zip(scenes, questions, strict=True)
            ],
        )
        truths = [oracle.answer(s, q) for s, q in zip(scenes, questions, strict=True)]
        assert np.mean([a == b for a, b in zip(told, truths, strict=True)]) > least


def test_the_llama_chooses_between_two_options(
    llama: tuple[LlamaForCausalLM, PreTrainedTokenizerBase],
) -> None:
    rng = random.Random(0)
    texts, letters = [], []
    for _ in range(200):
        scene = random_scene_of(rng, held_out=True)
        question, letter = ask_choice(*rng.choice(CHOICE_KINDS), scene, rng)
        texts.append(f"{brief_caption(scene, rng)}\n{question}")
        letters.append(letter)
    assert np.mean([a == b for a, b in zip(said_about(llama, texts), letters, strict=True)]) > 0.6
