"""The base models in the repository: small, opened by everybody's loaders, and what they know."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, CLIPVisionModel

from mllm.template import prepare_tokenizer
from scripts.miniature.language import brief_caption
from scripts.miniature.questions import YES_NO_SUFFIX
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


@torch.no_grad()
def test_the_llama_reads_how_many_there_are() -> None:
    """What it has learned so far; yes and no about a text are still at chance."""
    tokenizer = AutoTokenizer.from_pretrained(MODELS / "llm", padding_side="left")
    prepare_tokenizer(tokenizer, system="")
    model = AutoModelForCausalLM.from_pretrained(MODELS / "llm", dtype=torch.float32).eval()
    rng = random.Random(0)
    right = []
    for _ in range(24):
        scene = random_scene_of(rng, held_out=True)
        question = "How many objects are there?"
        text = f"{brief_caption(scene, rng)}\n{question}{YES_NO_SUFFIX}"
        inputs = tokenizer.apply_chat_template(
            [{"role": "user", "content": text}],
            add_generation_prompt=True,
            return_dict=True,
            return_tensors="pt",
        )
        output = model.generate(**inputs, max_new_tokens=6, do_sample=False)
        said = tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        right.append(said.strip() == oracle.answer(scene, question))
    assert np.mean(right) > 0.75
