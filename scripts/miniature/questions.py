"""Questions about a scene and their true answers, as POPE, MMVP and short VQA ask them."""

from __future__ import annotations

import random
from collections.abc import Sequence

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

SHORT_SUFFIX = "\nAnswer the question using a single word or phrase."
LETTER_SUFFIX = "\nAnswer with the option's letter from the given choices directly."
# What may be asked for, and what two options may be offered: the easiest to choose from first.
CHOICES: dict[str, tuple[str, ...]] = {
    "background": BACKGROUNDS,
    "shape": SHAPES,
    "count": NUMBERS[1:],
    "colour": COLOURS,
    "size": SIZES,
    "surface": SURFACES,
    "position": PLACES,
    "presence": ("yes", "no"),
}
_OF_THINGS = ("colour", "shape", "size", "surface", "position")
MOST_TURNS = 8


def ask_existence(name: str) -> str:
    return f"Is there a {name} in the image?"


def _alone(kind: str, thing: Thing, scenes: Sequence[Scene]) -> bool:
    """Whether nothing else in any of the scenes is like the thing in this property."""
    value = getattr(thing, kind)
    return all(sum(getattr(t, kind) == value for t in s.things) <= 1 for s in scenes)


def reference(kind: str, thing: Thing, scenes: Sequence[Scene]) -> str:
    """The shortest description that fits one thing only and does not give the answer away."""
    if kind != "shape" and _alone("shape", thing, scenes):
        return f"the {thing.shape}"
    if kind == "shape" and _alone("colour", thing, scenes):
        return f"the {thing.colour} object"
    if kind in ("shape", "colour"):
        return f"the object {at(thing.place)}"
    return f"the {identity(thing)}"


def question_about(kind: str, thing: Thing, *scenes: Scene) -> str:
    """Asks for one property of a thing, or of the scene; it means the same in all the scenes."""
    if kind == "presence":
        return ask_existence(thing.shape if _alone("shape", thing, scenes) else identity(thing))
    if kind == "count":
        return "How many objects are there?"
    if kind == "background":
        return "What is the background?"
    name = reference(kind, thing, scenes)
    return f"Where is {name}?" if kind == "position" else f"What is the {kind} of {name}?"


def answer_to(kind: str, thing: Thing, scene: Scene) -> str:
    """The true answer to ``question_about`` in one scene."""
    if kind == "presence":
        return "yes" if any(identity(t) == identity(thing) for t in scene.things) else "no"
    if kind == "count":
        return NUMBERS[len(scene.things)]
    if kind == "background":
        return scene.background
    return PLACES[thing.place] if kind == "position" else getattr(thing, kind)


def options_text(options: tuple[str, str]) -> str:
    """Two options as MMVP's Questions.csv writes them."""
    return f"(a) {options[0]} (b) {options[1]}"


def choice(kind: str, scene: Scene, rng: random.Random) -> tuple[str, str]:
    """A question with two options, as MMVP asks, and the true one's letter."""
    thing = rng.choice(scene.things)
    if kind == "presence" and rng.random() < 0.5:
        absent = [shape for shape in SHAPES if all(t.shape != shape for t in scene.things)]
        thing = Thing(0, rng.choice(absent), rng.choice(COLOURS), "small", "plain")
    truth = answer_to(kind, thing, scene)
    options = [truth, other(rng, CHOICES[kind], truth)]
    rng.shuffle(options)
    letter = "(a)" if options[0] == truth else "(b)"
    offered = options_text((options[0], options[1]))
    return f"{question_about(kind, thing, scene)} {offered}{LETTER_SUFFIX}", letter


def _short(turns: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """As in LLaVA-1.5's instruction mix, the first short question alone says how to answer."""
    (question, answer), *rest = turns
    return [(question + SHORT_SUFFIX, answer), *rest]


def existences(scene: Scene, rng: random.Random) -> list[tuple[str, str]]:
    """Is it there? Asked of every shape that is, and of as many that are not."""
    present = sorted({thing.shape for thing in scene.things})
    absent = [shape for shape in SHAPES if shape not in present]
    number = min(len(present), len(absent))
    turns = [(ask_existence(shape), "Yes") for shape in rng.sample(present, number)]
    turns += [(ask_existence(shape), "No") for shape in rng.sample(absent, number)]
    rng.shuffle(turns)
    return _short(turns)


def _what_is_at(place: int, scene: Scene) -> tuple[str, str]:
    thing = thing_at(scene, place)
    return f"What is {at(place)}?", look(thing) if thing else "nothing"


def details(scene: Scene, rng: random.Random) -> list[tuple[str, str]]:
    """Some of all short questions about the things, the places and the whole."""
    # A shape is asked for by colour: with both asked for, one answer would give the other away.
    left_out = rng.choice(("colour", "shape"))
    asked = [(kind, t) for t in scene.things for kind in _OF_THINGS if kind != left_out]
    asked += [(kind, scene.things[0]) for kind in ("count", "background")]
    turns = [(question_about(*ask, scene), answer_to(*ask, scene)) for ask in asked]
    empty = [p for p in range(len(PLACES)) if thing_at(scene, p) is None]
    turns += [_what_is_at(p, scene) for p in (rng.choice(scene.things).place, rng.choice(empty))]
    return _short(rng.sample(turns, min(MOST_TURNS, len(turns))))


def choices(scene: Scene, rng: random.Random) -> list[tuple[str, str]]:
    """Two options each, for several properties."""
    kinds = rng.sample(list(CHOICES), MOST_TURNS // 2)
    return [choice(kind, scene, rng) for kind in kinds]


def dialogue(scene: Scene, rng: random.Random) -> list[tuple[str, str]]:
    """Questions of one sort about one scene with their answers, none asked twice.

    So many about one picture because a batch must hold many answers before a model begins to tell
    yes from no: one question in a batch of captions drowns.
    """
    return rng.choice((existences, details, choices))(scene, rng)
