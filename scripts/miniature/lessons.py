"""What the miniature's language model reads: scenes in words, with requests and answers.

The course goes from easy to hard, because some of it is never learned otherwise in so few steps.
Whether a thing is among those named, and which of two options is right, depend on the question and
the text together and on neither alone: asked about all shapes from the start, the model stays at
chance; asked about one shape first and then about one more at a time, it learns them all.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from scripts.miniature.language import (
    BRIEF_REQUESTS,
    at,
    brief_caption,
    long_caption,
    look,
)
from scripts.miniature.questions import (
    CHOICE_KINDS,
    ask_choice,
    ask_existence,
    choice_question,
    dialogue,
)
from scripts.miniature.world import PLACES, SHAPES, Scene, random_scene_of

Messages = list[dict[str, str]]
REPEAT_REQUEST = "Repeat these notes."
FEW = 4  # things in the scenes of the easy chapters


@dataclass(frozen=True)
class Chapter:
    """`lesson(rng, progress)` makes one document; progress runs from 0 to 1 over the chapter."""

    steps: int
    documents: int  # a step
    lesson: Callable[[random.Random, float], Messages]


def notes(scene: Scene, rng: random.Random) -> str:
    """A scene as loose notes in any order: the tersest text that still says everything."""
    told = [f"{look(thing)} {at(thing.place)}" for thing in scene.things]
    told += [scene.background, f"{len(scene.things)} objects"]
    return ", ".join(rng.sample(told, len(told)))


def first(values: tuple, progress: float) -> tuple:
    """One value for a quarter of a chapter, all for its last quarter, one more at a time between.

    The first must have been learned when the second comes: with less time it is not, and then
    nothing is.
    """
    growth = min(max(2 * progress - 0.5, 0.0), 1.0)
    return values[: 1 + int(growth * (len(values) - 1))]


def _messages(words: str, turns: list[tuple[str, str]]) -> Messages:
    """A conversation of requests and answers whose first request stands under the text."""
    (request, answer), *rest = turns
    roles = ("user", "assistant")
    return [
        {"role": role, "content": text}
        for turn in ((f"{words}\n{request}", answer), *rest)
        for role, text in zip(roles, turn, strict=True)
    ]


def retelling(rng: random.Random, progress: float) -> Messages:
    """Notes said again, as they are or in order: teaches to look things up in what was read."""
    scene = random_scene_of(rng, held_out=False, most=FEW)
    words = notes(scene, rng)
    ordered = (rng.choice(BRIEF_REQUESTS), brief_caption(scene, rng))
    return _messages(words, [rng.choice(((REPEAT_REQUEST, words), ordered))])


def presence(rng: random.Random, progress: float) -> Messages:
    """Is a thing among those named? One shape at first."""
    shape, wanted = rng.choice(first(SHAPES, progress)), rng.random() < 0.5
    while True:
        scene = random_scene_of(rng, held_out=False, most=FEW)
        if any(thing.shape == shape for thing in scene.things) == wanted:
            answer = "Yes" if wanted else "No"
            return _messages(notes(scene, rng), [(ask_existence(shape), answer)])


def detail(rng: random.Random, progress: float) -> Messages:
    """One detail of one thing: of one shape, or at one place, at first; presence goes on."""
    if rng.random() < 0.2:
        return presence(rng, progress=1.0)
    kind = rng.choice(("size", "surface", "position", "colour", "shape"))
    shapes, places = first(SHAPES, progress), first(tuple(range(len(PLACES))), progress)
    while True:
        scene = random_scene_of(rng, held_out=False, most=FEW)
        # Colours and shapes are asked for by place, the other kinds by colour and shape.
        by_place = kind in ("colour", "shape")
        asked = [t for t in scene.things if (t.place in places if by_place else t.shape in shapes)]
        if asked:
            return _messages(notes(scene, rng), [choice_question(kind, scene, rng.choice(asked))])


def options(rng: random.Random, progress: float) -> Messages:
    """Which of two options? About one property at first; the earlier questions go on beside it."""
    if rng.random() < 0.4:
        return detail(rng, progress=1.0)
    scene = random_scene_of(rng, held_out=False, most=FEW)
    kind, values = rng.choice(first(CHOICE_KINDS, progress))
    return _messages(notes(scene, rng), [ask_choice(kind, values, scene, rng)])


def conversation(rng: random.Random, progress: float) -> Messages:
    """A text of any kind, then all sorts of requests about it."""
    scene = random_scene_of(rng, held_out=False)
    words = rng.choice((long_caption, brief_caption, notes))(scene, rng)
    turns = dialogue(scene, rng, rng.randint(4, 8))
    if rng.random() < 0.1:
        turns.append((rng.choice(BRIEF_REQUESTS), brief_caption(scene, rng)))
    rng.shuffle(turns)
    return _messages(words, turns)


COURSE = (
    Chapter(steps=350, documents=32, lesson=retelling),
    Chapter(steps=900, documents=64, lesson=presence),
    Chapter(steps=500, documents=64, lesson=detail),
    Chapter(steps=1400, documents=64, lesson=options),
    Chapter(steps=900, documents=16, lesson=conversation),
)
