"""What the miniature's language model reads: scenes in words, with requests and answers."""

from __future__ import annotations

import random

from scripts.miniature.language import (
    BRIEF_REQUESTS,
    DETAIL_REQUEST,
    at,
    brief_caption,
    long_caption,
    look,
)
from scripts.miniature.questions import dialogue
from scripts.miniature.world import Scene, random_scene_of


def fragments(scene: Scene, rng: random.Random) -> str:
    """A scene as loose notes in any order: the tersest text that still says everything."""
    notes = [f"{look(thing)} {at(thing.place)}" for thing in scene.things]
    notes += [scene.background, f"{len(scene.things)} objects"]
    return ", ".join(rng.sample(notes, len(notes)))


def lesson(rng: random.Random) -> list[dict[str, str]]:
    """One document: a scene put in words, then requests about it with their answers."""
    scene = random_scene_of(rng, held_out=False)
    words = rng.choice((long_caption, brief_caption, fragments))(scene, rng)
    turns = dialogue(scene, rng, rng.randint(3, 6))
    if rng.random() < 0.3:
        turns.append((rng.choice(BRIEF_REQUESTS), brief_caption(scene, rng)))
    if rng.random() < 0.05:
        turns.append((DETAIL_REQUEST, long_caption(scene, rng)))
    rng.shuffle(turns)
    turns[0] = (f"{words}\n{turns[0][0]}", turns[0][1])
    roles = ("user", "assistant")
    return [
        {"role": role, "content": text}
        for turn in turns
        for role, text in zip(roles, turn, strict=True)
    ]
