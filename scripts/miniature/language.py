"""The world's English: alt texts, long and brief captions, captions of edits."""

from __future__ import annotations

import random

from scripts.miniature.world import PLACES, Edit, Scene, Thing

NUMBERS = ("no", "one", "two", "three", "four", "five")
BRIEF_REQUESTS = (
    "Provide a brief description of the given image.",
    "Give a short and clear explanation of the image.",
    "What is in the photo?",
    "Summarize the visual content of the image.",
)
DETAIL_REQUEST = "Please describe this image in detail."
_ALT_ENDINGS = (
    "",
    "",
    "",
    " stock photo",
    " wallpaper",
    " free download",
    " art print",
    " sticker",
)


def at(place: int) -> str:
    """'at the top left', 'in the centre', 'on the right'."""
    name = PLACES[place]
    preposition = {"centre": "in", "left": "on", "right": "on"}.get(name, "at")
    return f"{preposition} the {name}"


def plural(count: int, noun: str = "object") -> str:
    return f"{NUMBERS[count]} {noun}" + ("" if count == 1 else "s")


def listing(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def look(thing: Thing) -> str:
    return f"{thing.size} {thing.surface} {thing.colour} {thing.shape}"


def identity(thing: Thing) -> str:
    """Colour and shape: what tells a thing apart from the others of its scene."""
    return f"{thing.colour} {thing.shape}"


def alt_text(scene: Scene, rng: random.Random) -> str:
    """A caption as the web writes them: the things that catch the eye, rarely how they look.

    Small things go unmentioned unless there is nothing else; one thing in seven is given a colour.
    """
    striking = [thing for thing in scene.things if thing.size == "large"] or list(scene.things[:1])
    named = rng.sample(striking, min(len(striking), rng.choice((1, 2, 2, 3))))
    words = [f"a {identity(thing) if rng.random() < 0.15 else thing.shape}" for thing in named]
    ground = f" on {scene.background}" if rng.random() < 0.1 else ""
    return listing(words).capitalize() + ground + rng.choice(_ALT_ENDINGS) + "."


def _wordy(thing: Thing) -> str:
    return (
        f"If you look {at(thing.place)} of the picture you can see a {thing.colour} {thing.shape}. "
        f"This {thing.shape} is {thing.size} in size and its surface is {thing.surface} all over."
    )


def _concise(thing: Thing) -> str:
    return f"{at(thing.place).capitalize()} there is a {look(thing)}."


def relation(a: Thing, b: Thing) -> str:
    if a.row != b.row:
        word = "above" if a.row < b.row else "below"
    else:
        word = "to the left of" if a.column < b.column else "to the right of"
    return f"The {identity(a)} is {word} the {identity(b)}."


def _relations(scene: Scene, rng: random.Random, most: int) -> list[str]:
    pairs = [(a, b) for a in scene.things for b in scene.things if a != b]
    return [relation(*pair) for pair in rng.sample(pairs, min(most, len(pairs)))]


def long_caption(scene: Scene, rng: random.Random) -> str:
    """Everything about a scene in 100-240 CLIP tokens; its first sentence is the alt text."""
    count = len(scene.things)
    things = rng.sample(scene.things, count)
    sentences = [
        alt_text(scene, rng),
        f"The background of the whole picture is {scene.background}, "
        f"and there {'is' if count == 1 else 'are'} {plural(count)} on it.",
    ]
    sentences += [(_wordy if count <= 2 else _concise)(thing) for thing in things]
    if count == 1:
        (thing,) = things
        sentences.append(
            f"Apart from this {identity(thing)} the picture is empty: no other object can be found "
            f"in any of the other places, only the {scene.background} with some light falling "
            f"across it and a little grain, as in a photo that was taken with a very simple camera."
        )
    elif count == 2:
        sentences.append("Nothing else can be seen in any of the other places of the picture.")
    return " ".join(sentences + _relations(scene, rng, most=(0, 0, 2, 6, 5, 3)[count]))


def brief_caption(scene: Scene, rng: random.Random) -> str:
    """All things with their looks and places, in one sentence and in reading order."""
    parts = [f"a {look(thing)} {at(thing.place)}" for thing in scene.things]
    return f"{plural(len(parts))} on {scene.background}: {listing(parts)}.".capitalize()


def thing_at(scene: Scene, place: int) -> Thing | None:
    return next((thing for thing in scene.things if thing.place == place), None)


def edit_caption(edit: Edit, scene: Scene) -> str:
    """The caption of an edit's source or target, of the form UltraEdit pairs have.

    Both captions of a pair share their words but for what the edit changed. They tell the looks and
    the places of what they mention, whatever the kind of edit: a batch's other pairs are then told
    apart by every detail, not only by the one that is edited.
    """
    if edit.kind == "count":
        thing = thing_at(scene, edit.focus[0])
        assert thing is not None, "a count edit keeps the thing it mentions"
        return f"{plural(len(scene.things))} on {scene.background}, among them a {look(thing)}"
    things = [thing_at(scene, place) for place in edit.focus]
    present = [f"a {look(thing)} {at(thing.place)}" for thing in things if thing is not None]
    absent = [
        f"a {look(thing)}"
        for place, here in zip(edit.focus, things, strict=True)
        if here is None and edit.kind in ("add", "remove")
        for thing in (thing_at(edit.source, place) or thing_at(edit.target, place),)
        if thing is not None
    ]
    ending = f" and without {listing(absent)}" if absent else ""
    return f"{listing(present)}{ending} on {scene.background}"
