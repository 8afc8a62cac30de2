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

from mllm.template import IMAGE_TOKEN, prepare_tokenizer
from scripts.miniature.base_llama import lesson_batch
from scripts.miniature.language import brief_caption, identity
from scripts.miniature.lessons import GRID, Lesson, gist, messages_about
from scripts.miniature.questions import CHOICES, SHORT_SUFFIX, choice
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
    """Its captions name shapes, and rarely a surface: it is blind to that as CLIP is to detail."""
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
def share_right(
    llama: tuple[LlamaForCausalLM, PreTrainedTokenizerBase], lessons: list[Lesson]
) -> float:
    """Of lessons of one turn, how many would be answered word for word by greedy decoding."""
    model, tokenizer = llama
    torch.manual_seed(0)
    batch = lesson_batch(tokenizer, model.get_input_embeddings(), lessons, blur=0.5)
    labels_BL = batch.pop("labels")[:, 1:]
    guesses_BL = model(**batch).logits[:, :-1].argmax(dim=-1)
    return ((guesses_BL == labels_BL) | (labels_BL == -100)).all(dim=1).float().mean().item()


def as_gist(scene: Scene, rng: random.Random, turn: tuple[str, str]) -> Lesson:
    return Lesson(messages_about(IMAGE_TOKEN * GRID**2, [turn]), gist(scene, rng))


def as_brief(scene: Scene, rng: random.Random, turn: tuple[str, str]) -> Lesson:
    return Lesson(messages_about(brief_caption(scene, rng), [turn]))


def existence(rng: random.Random, thing: Thing) -> str:
    return f"Is there a {rng.choice(SHAPES)} in the image?"


def surface(rng: random.Random, thing: Thing) -> str:
    return f"What is the surface of the {identity(thing)}?"


def count(rng: random.Random, thing: Thing) -> str:
    return "How many objects are there?"


def place(rng: random.Random, thing: Thing) -> str:
    return f"Where is the {identity(thing)}?"


@pytest.mark.parametrize(
    ("question_of", "told", "least"),
    [
        # Chance is one in two, one in three, one in five and one in nine.
        (existence, as_gist, 0.9),
        (existence, as_brief, 0.9),
        (surface, as_gist, 0.8),
        (surface, as_brief, 0.5),
        (count, as_gist, 0.75),
        (count, as_brief, 0.75),
        (place, as_gist, 0.75),
        (place, as_brief, 0.15),
    ],
)
def test_the_llama_reads_gists_and_words(
    llama: tuple[LlamaForCausalLM, PreTrainedTokenizerBase],
    question_of: Callable[[random.Random, Thing], str],
    told: Callable[[Scene, random.Random, tuple[str, str]], Lesson],
    least: float,
) -> None:
    """Held-out scenes; the true answers come from an independent reading."""
    rng = random.Random(0)
    lessons = []
    for _ in range(150):
        scene = random_scene_of(rng, held_out=True)
        question = question_of(rng, rng.choice(scene.things))
        turn = (question + SHORT_SUFFIX, oracle.answer(scene, question))
        lessons.append(told(scene, rng, turn))
    assert share_right(llama, lessons) > least


def test_the_llama_chooses_between_two_options(
    llama: tuple[LlamaForCausalLM, PreTrainedTokenizerBase],
) -> None:
    rng = random.Random(0)
    scenes = [random_scene_of(rng, held_out=True) for _ in range(200)]
    asked = [as_gist(scene, rng, choice(rng.choice(list(CHOICES)), scene, rng)) for scene in scenes]
    assert share_right(llama, asked) > 0.75
