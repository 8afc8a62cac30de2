"""An independent reader of the miniature's English: text back to scene, and questions answered.

Nothing here is taken from the code that writes the texts but the lists of words.
"""

from __future__ import annotations

import re

from scripts.miniature.world import (
    BACKGROUNDS,
    COLOURS,
    PLACES,
    SHAPES,
    SIZES,
    SURFACES,
    Scene,
    Thing,
)

NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5}
WHERE = "|".join(sorted(PLACES, key=len, reverse=True))
SIZE, SURFACE = "|".join(SIZES), "|".join(SURFACES)
COLOUR, SHAPE, GROUND = "|".join(COLOURS), "|".join(SHAPES), "|".join(BACKGROUNDS)
BRIEF = re.compile(rf"a ({SIZE}) ({SURFACE}) ({COLOUR}) ({SHAPE}) (?:at|in|on) the ({WHERE})")
CONCISE = re.compile(
    rf"(?:At|In|On) the ({WHERE}) there is a ({SIZE}) ({SURFACE}) ({COLOUR}) ({SHAPE})\."
)
WORDY = re.compile(
    rf"(?:at|in|on) the ({WHERE}) of the picture you can see a ({COLOUR}) ({SHAPE})\. "
    rf"This ({SHAPE}) is ({SIZE}) in size and its surface is ({SURFACE}) all over"
)
RELATION = re.compile(
    rf"The ({COLOUR}) ({SHAPE}) is (above|below|to the left of|to the right of) "
    rf"the ({COLOUR}) ({SHAPE})\."
)


def _scene(background: str, things: list[Thing]) -> Scene:
    return Scene(background, tuple(sorted(things, key=lambda thing: thing.place)))


def read_brief(text: str) -> Scene:
    """The scene that a one-sentence description of everything tells of."""
    found = re.fullmatch(rf"(\w+) objects? on ({GROUND}): (.*)\.", text)
    assert found, text
    things = [
        Thing(PLACES.index(place), shape, colour, size, surface)
        for size, surface, colour, shape, place in BRIEF.findall(found[3])
    ]
    assert len(things) == NUMBERS[found[1].lower()], text
    return _scene(found[2], things)


def read_long(text: str) -> Scene:
    """The scene that a long caption tells of, from its sentences about things and background."""
    ground = re.search(
        rf"background of the whole picture is ({GROUND}), and there (is|are) (\w+) object", text
    )
    assert ground, text
    things = [
        Thing(PLACES.index(place), shape, colour, size, surface)
        for place, size, surface, colour, shape in CONCISE.findall(text)
    ]
    for place, colour, shape, again, size, surface in WORDY.findall(text):
        assert again == shape, text
        things.append(Thing(PLACES.index(place), shape, colour, size, surface))
    assert len(things) == NUMBERS[ground[3]], text
    assert (ground[2] == "is") == (len(things) == 1), text
    return _scene(ground[1], things)


def relations_hold(text: str, scene: Scene) -> bool:
    """Whether every sentence that relates two things is true of the scene."""
    for colour, shape, relation, other_colour, other_shape in RELATION.findall(text):
        a, b = the(scene, colour, shape), the(scene, other_colour, other_shape)
        true = {
            "above": a.place // 3 < b.place // 3,
            "below": a.place // 3 > b.place // 3,
            "to the left of": a.place % 3 < b.place % 3,
            "to the right of": a.place % 3 > b.place % 3,
        }
        if not true[relation]:
            return False
    return True


def the(scene: Scene, colour: str, shape: str) -> Thing:
    """The one thing of that look."""
    [thing] = [t for t in scene.things if (t.colour, t.shape) == (colour, shape)]
    return thing


def named(scene: Scene, name: str) -> Thing:
    """The one thing a question names: "circle", "red circle", "red object" or by its place."""
    if found := re.fullmatch(rf"object (?:at|in|on) the ({WHERE})", name):
        fitting = [t for t in scene.things if PLACES[t.place] == found[1]]
    else:
        words = set(name.split()) - {"object"}
        fitting = [t for t in scene.things if words <= {t.colour, t.shape}]
    [thing] = fitting
    return thing


def answer(scene: Scene, question: str) -> str:
    """The true answer to a question of the world, read from its words alone."""
    if question == "How many objects are there?":
        return list(NUMBERS)[len(scene.things) - 1]
    if question == "What is the background?":
        return scene.background
    if found := re.fullmatch(rf"Is there an? ((?:{COLOUR}) )?({SHAPE}) in the image\?", question):
        wanted = set(found[0].split()) & {*COLOURS, *SHAPES}
        return "Yes" if any(wanted <= {t.colour, t.shape} for t in scene.things) else "No"
    if found := re.fullmatch(r"Where is the (.*)\?", question):
        return PLACES[named(scene, found[1]).place]
    if found := re.fullmatch(r"What is the (colour|shape|size|surface) of the (.*)\?", question):
        thing = named(scene, found[2])
        looks = {"colour": thing.colour, "shape": thing.shape}
        return (looks | {"size": thing.size, "surface": thing.surface})[found[1]]
    if found := re.fullmatch(rf"What is (?:at|in|on) the ({WHERE})\?", question):
        here = [t for t in scene.things if PLACES[t.place] == found[1]]
        return " ".join(f"{t.size} {t.surface} {t.colour} {t.shape}" for t in here) or "nothing"
    raise AssertionError(f"the oracle does not know the question {question!r}")


def right_options(scene: Scene, question: str, options: tuple[str, str]) -> list[str]:
    """The letters of the options that are true."""
    truth = answer(scene, question).lower()
    return [letter for letter, option in zip("ab", options, strict=True) if option == truth]
