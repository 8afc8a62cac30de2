"""What the miniature's language model reads: scenes in words, with requests and answers.

The course goes from easy to hard, because some of it is never learned otherwise in so few steps.
Many answers a lesson, of one sort, are the whole secret: whether a thing is there depends on the
question and the text together and on neither alone, and one such answer among the words of captions
stays at chance for thousands of steps.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from mllm.template import IMAGE_TOKEN
from scripts.miniature.language import (
    BRIEF_REQUESTS,
    at,
    brief_caption,
    long_caption,
    look,
    thing_at,
)
from scripts.miniature.questions import (
    CHOICES,
    choice,
    details,
    dialogue,
    existences,
    reference,
)
from scripts.miniature.world import PLACES, SHAPES, Scene, random_scene_of

Messages = list[dict[str, str]]
CHOICES_A_LESSON = 6
GRID = 6  # gist tokens a side, two by two for a place
CHECK_REQUEST, LIST_REQUEST = "Which shapes are there?", "What are the objects like?"


@dataclass(frozen=True)
class Lesson:
    """A conversation; each image token in it stands for one text of ``gist``, or there is none."""

    messages: Messages
    gist: tuple[str, ...] = ()


@dataclass(frozen=True)
class Chapter:
    """``lesson(rng, progress)`` makes one document, progress from 0 to 1 over the chapter.

    ``blur`` tells how unclear its gists are, at its start and at its end.
    """

    steps: int
    documents: int  # a step
    lesson: Callable[[random.Random, float], Lesson]
    blur: tuple[float, float]


def first(values: tuple, progress: float) -> tuple:
    """One value for the first sixth of a chapter, all for its last third, more and more between.

    The first must have been learned when the second comes, or nothing is.
    """
    growth = min(max(2 * progress - 1 / 3, 0.0), 1.0)
    return values[: 1 + int(growth * (len(values) - 1))]


def gist(scene: Scene, rng: random.Random) -> tuple[str, ...]:
    """The words that fit each field of a grid, in reading order; read as one token a field.

    The model has never seen a picture; that one token may mean several words, it learns from this.
    A thing covers most of the fields of its place.
    """
    fields = []
    for row in range(GRID):
        for column in range(GRID):
            place = 3 * (3 * row // GRID) + 3 * column // GRID
            thing = thing_at(scene, place)
            seen = f"{look(thing)} " if thing and rng.random() < 0.95 else ""
            fields.append(f"{seen}{PLACES[place]} {scene.background}")
    return tuple(fields)


def notes(scene: Scene, rng: random.Random) -> str:
    """A scene as loose notes in any order: the tersest text that still says everything."""
    told = [f"{look(thing)} {at(thing.place)}" for thing in scene.things]
    told += [scene.background, f"{len(scene.things)} objects"]
    return ", ".join(rng.sample(told, len(told)))


def messages_about(words: str, turns: list[tuple[str, str]]) -> Messages:
    """A conversation of requests and answers whose first request stands under the text."""
    (request, answer), *rest = turns
    roles = ("user", "assistant")
    return [
        {"role": role, "content": text}
        for turn in ((f"{words}\n{request}", answer), *rest)
        for role, text in zip(roles, turn, strict=True)
    ]


def _seen(scene: Scene, rng: random.Random, turns: list[tuple[str, str]]) -> Lesson:
    return Lesson(messages_about(IMAGE_TOKEN * GRID**2, turns), gist(scene, rng))


def checklist(scene: Scene, rng: random.Random) -> str:
    """Every shape, and whether it is there."""
    present = {thing.shape for thing in scene.things}
    shapes = rng.sample(SHAPES, len(SHAPES))
    return ", ".join(f"{shape} {'yes' if shape in present else 'no'}" for shape in shapes)


def catalogue(scene: Scene, rng: random.Random) -> str:
    """Every thing, named by its shape, its colour or its place; then all about it."""
    things = rng.sample(scene.things, len(scene.things))
    names = [reference(rng.choice(("shape", "colour")), thing, [scene]) for thing in things]
    told = [f"{name}: {look(t)} {at(t.place)}" for name, t in zip(names, things, strict=True)]
    return "; ".join(told)


def listing(rng: random.Random, progress: float) -> Lesson:
    """Lists, in which nearly every word must be looked up."""
    scene = random_scene_of(rng, held_out=False)
    lists = ((CHECK_REQUEST, checklist), (LIST_REQUEST, catalogue))
    request, write = rng.choice(lists)
    return _seen(scene, rng, [(request, write(scene, rng))])


def questioning(rng: random.Random, progress: float) -> Lesson:
    """Existences or details."""
    scene = random_scene_of(rng, held_out=False)
    return _seen(scene, rng, rng.choice((existences, details))(scene, rng))


def choosing(rng: random.Random, progress: float) -> Lesson:
    """Options, for one property at first and then for one more at a time; questions go on."""
    if rng.random() < 0.4:
        return questioning(rng, progress)
    scene = random_scene_of(rng, held_out=False)
    kind = rng.choice(first(tuple(CHOICES), progress))
    turns = dict(choice(kind, scene, rng) for _ in range(CHOICES_A_LESSON))
    return _seen(scene, rng, list(turns.items()))


def choosing_all(rng: random.Random, progress: float) -> Lesson:
    """Options for every property from the start."""
    return choosing(rng, progress=1.0)


def _turns(scene: Scene, rng: random.Random) -> list[tuple[str, str]]:
    if rng.random() < 0.25:
        return [(rng.choice(BRIEF_REQUESTS), brief_caption(scene, rng))]
    return dialogue(scene, rng)


def told_in_words(rng: random.Random) -> Lesson:
    """A scene in words of any kind, then questions about it or its description."""
    scene = random_scene_of(rng, held_out=False)
    words = rng.choice((long_caption, brief_caption, notes))(scene, rng)
    return Lesson(messages_about(words, _turns(scene, rng)))


def conversation(rng: random.Random, progress: float) -> Lesson:
    """A scene as a gist or in words, then questions about it or its description."""
    if rng.random() < 0.4:
        return told_in_words(rng)
    scene = random_scene_of(rng, held_out=False)
    return _seen(scene, rng, _turns(scene, rng))


# Conversations come twice: options are learned best by a model that already reads, and what is not
# practised along with them is lost.
COURSE = (
    Chapter(steps=500, documents=48, lesson=listing, blur=(0.0, 1.0)),
    Chapter(steps=600, documents=16, lesson=questioning, blur=(0.5, 0.5)),
    Chapter(steps=900, documents=16, lesson=choosing, blur=(0.5, 0.5)),
    Chapter(steps=900, documents=16, lesson=conversation, blur=(0.5, 1.0)),
    Chapter(steps=900, documents=16, lesson=choosing_all, blur=(0.5, 1.0)),
    Chapter(steps=400, documents=16, lesson=conversation, blur=(1.0, 1.0)),
)
