"""Questions about a scene and their true answers, as POPE, MMVP and short VQA ask them."""

from __future__ import annotations

import random
from collections.abc import Callable

from scripts.miniature.language import NUMBERS, at, identity, look, thing_at
from scripts.miniature.world import (
    BACKGROUNDS,
    COLOURS,
    PLACES,
    SHAPES,
    SIZES,
    SURFACES,
    Scene,
    Thing,
    other,
)

YES_NO_SUFFIX = "\nAnswer the question using a single word or phrase."
LETTER_SUFFIX = "\nAnswer with the option's letter from the given choices directly."


def _article(word: str) -> str:
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


def ask_existence(shape: str) -> str:
    return f"Is there {_article(shape)} in the image?"


def _existence(scene: Scene, rng: random.Random) -> tuple[str, str]:
    present = sorted({thing.shape for thing in scene.things})
    absent = [shape for shape in SHAPES if shape not in present]
    if rng.random() < 0.5:
        return ask_existence(rng.choice(present)) + YES_NO_SUFFIX, "Yes"
    return ask_existence(rng.choice(absent)) + YES_NO_SUFFIX, "No"


def _property(kind: str) -> Callable[[Scene, random.Random], tuple[str, str]]:
    def ask(scene: Scene, rng: random.Random) -> tuple[str, str]:
        thing = rng.choice(scene.things)
        name = thing.shape if kind == "colour" else identity(thing)
        if kind == "colour" and sum(t.shape == thing.shape for t in scene.things) > 1:
            return _place(scene, rng)
        return f"What is the {kind} of the {name}?{YES_NO_SUFFIX}", getattr(thing, kind)

    return ask


def _place(scene: Scene, rng: random.Random) -> tuple[str, str]:
    thing = rng.choice(scene.things)
    return f"Where is the {identity(thing)}?{YES_NO_SUFFIX}", PLACES[thing.place]


def _what_is_at(scene: Scene, rng: random.Random) -> tuple[str, str]:
    place = rng.randrange(len(PLACES)) if rng.random() < 0.25 else rng.choice(scene.things).place
    thing = thing_at(scene, place)
    answer = look(thing) if thing else "nothing"
    return f"What is {at(place)}?{YES_NO_SUFFIX}", answer


def _count(scene: Scene, rng: random.Random) -> tuple[str, str]:
    return f"How many objects are there?{YES_NO_SUFFIX}", NUMBERS[len(scene.things)]


def _ground(scene: Scene, rng: random.Random) -> tuple[str, str]:
    return f"What is the background?{YES_NO_SUFFIX}", scene.background


def options_text(options: tuple[str, str]) -> str:
    """Two options as MMVP's Questions.csv writes them."""
    return f"(a) {options[0]} (b) {options[1]}"


def ask_choice(
    kind: str, values: tuple[str, ...], scene: Scene, rng: random.Random
) -> tuple[str, str]:
    """A question with two of ``values`` as options, as MMVP asks, and the true one's letter."""
    question, truth = choice_question(kind, scene, rng.choice(scene.things), rng)
    options = [truth, other(rng, values, truth)]
    rng.shuffle(options)
    letter = "(a)" if options[0] == truth else "(b)"
    return f"{question} {options_text((options[0], options[1]))}{LETTER_SUFFIX}", letter


def _choice(scene: Scene, rng: random.Random) -> tuple[str, str]:
    kind, values = rng.choice(CHOICE_KINDS)
    return ask_choice(kind, values, scene, rng)


def choice_question(
    kind: str, scene: Scene, thing: Thing, rng: random.Random | None = None
) -> tuple[str, str]:
    """An MMVP question about one property of a thing (or of the scene) and its true option.

    For "presence" the asked thing may be absent from the scene; with ``rng`` it is drawn anew.
    """
    if kind == "presence":
        if rng is not None and rng.random() < 0.5:
            thing = Thing(0, rng.choice(SHAPES), rng.choice(COLOURS), "small", "plain")
        here = any(identity(thing) == identity(other_thing) for other_thing in scene.things)
        return f"Is there a {identity(thing)} in the image?", "yes" if here else "no"
    if kind == "shape":
        return f"What is {at(thing.place)}?", thing.shape
    if kind == "colour":
        return f"What is the colour of the object {at(thing.place)}?", thing.colour
    if kind == "count":
        return "How many objects are there?", NUMBERS[len(scene.things)]
    if kind == "background":
        return "What is the background?", scene.background
    if kind == "position":
        return f"Where is the {identity(thing)}?", PLACES[thing.place]
    return f"What is the {kind} of the {identity(thing)}?", getattr(thing, kind)


# What two options are offered for, the easiest to read off a text first.
CHOICE_KINDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("background", BACKGROUNDS),
    ("count", NUMBERS[1:]),
    ("presence", ("yes", "no")),
    ("shape", SHAPES),
    ("colour", COLOURS),
    ("size", SIZES),
    ("surface", SURFACES),
    ("position", PLACES),
)
Ask = Callable[[Scene, random.Random], tuple[str, str]]
LOOKUPS: tuple[Ask, ...] = (
    _property("colour"),
    _property("size"),
    _property("surface"),
    _place,
    _what_is_at,
    _count,
    _ground,
)
QUESTIONS = (*[_existence] * 4, *LOOKUPS, *[_choice] * 3)


def dialogue(scene: Scene, rng: random.Random, turns: int) -> list[tuple[str, str]]:
    """Questions about one scene with their answers, none asked twice.

    As in LLaVA-1.5's instruction mix, the first short question alone says how to answer.
    """
    asked: dict[str, str] = {}
    while len(asked) < turns:
        question, answer = rng.choice(QUESTIONS)(scene, rng)
        asked.setdefault(question, answer)
    short = [question for question in asked if question.endswith(YES_NO_SUFFIX)]
    return [
        (question.removesuffix(YES_NO_SUFFIX) if question in short[1:] else question, answer)
        for question, answer in asked.items()
    ]
