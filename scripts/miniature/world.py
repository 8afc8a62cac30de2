"""Scenes of the drawn world: what there is, how scenes are drawn at random, how they are edited.

A scene is 1-5 objects on a three-by-three grid over a background. Every visible property is a word,
so that captions, questions and ground truth are all derived from the same scene.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

SHAPES = ("circle", "square", "triangle", "star", "heart", "ring", "cross", "moon")
COLOURS = ("red", "yellow", "green", "blue", "purple", "white")
SIZES = ("large", "small")
SURFACES = ("plain", "striped", "dotted")
PLACES = (
    "top left",
    "top",
    "top right",
    "left",
    "centre",
    "right",
    "bottom left",
    "bottom",
    "bottom right",
)
BACKGROUNDS = ("sand", "grass", "night", "snow", "water")
MAX_OBJECTS = 5
# One scene in eight is held out, by a hash of what is in it, whatever the random seed.
HELD_OUT_BUCKETS, BUCKETS = 1, 8


@dataclass(frozen=True, order=True)
class Thing:
    """One object: what it is, how it looks, and the grid cell (index into PLACES) it sits in."""

    place: int
    shape: str
    colour: str
    size: str
    surface: str

    @property
    def row(self) -> int:
        return self.place // 3

    @property
    def column(self) -> int:
        return self.place % 3


@dataclass(frozen=True)
class Scene:
    """What a picture shows. Things stand in reading order: equal pictures are equal scenes."""

    background: str
    things: tuple[Thing, ...]

    @property
    def held_out(self) -> bool:
        digest = hashlib.sha256(repr(self).encode()).digest()
        return digest[0] % BUCKETS < HELD_OUT_BUCKETS


@dataclass(frozen=True)
class Edit:
    """A scene before and after one change; ``focus`` are the places a caption must mention."""

    kind: str
    source: Scene
    target: Scene
    focus: tuple[int, ...]
    instruction: str


def make_scene(background: str, things: list[Thing]) -> Scene:
    return Scene(background, tuple(sorted(things)))


def random_scene(rng: random.Random, least: int = 1, most: int = MAX_OBJECTS) -> Scene:
    """Draw a scene. No two things share both shape and colour, so a caption can tell them apart."""
    count = rng.randint(least, most)
    places = rng.sample(range(len(PLACES)), count)
    looks = rng.sample([(shape, colour) for shape in SHAPES for colour in COLOURS], count)
    things = [
        Thing(place, shape, colour, rng.choice(SIZES), rng.choice(SURFACES))
        for place, (shape, colour) in zip(places, looks, strict=True)
    ]
    return make_scene(rng.choice(BACKGROUNDS), things)


def other(rng: random.Random, options: tuple[str, ...], current: str) -> str:
    return rng.choice([option for option in options if option != current])


def _swap_thing(scene: Scene, old: Thing, new: Thing) -> Scene:
    return make_scene(scene.background, [new if t == old else t for t in scene.things])


def _one_property(kind: str, options: tuple[str, ...]) -> Callable[[random.Random, Scene], Edit]:
    """An edit that changes one property (a field of Thing) of one thing."""

    def edit(rng: random.Random, scene: Scene) -> Edit:
        thing = rng.choice(scene.things)
        value = other(rng, options, getattr(thing, kind))
        target = _swap_thing(scene, thing, replace(thing, **{kind: value}))
        instruction = f"Make the {thing.colour} {thing.shape} {value}."
        if kind == "shape":
            instruction = f"Turn the {thing.colour} {thing.shape} into a {value}."
        return Edit(kind, scene, target, (thing.place,), instruction)

    return edit


def _free_place(rng: random.Random, scene: Scene) -> int:
    taken = {thing.place for thing in scene.things}
    return rng.choice([place for place in range(len(PLACES)) if place not in taken])


def _move(rng: random.Random, scene: Scene) -> Edit:
    thing = rng.choice(scene.things)
    place = _free_place(rng, scene)
    target = _swap_thing(scene, thing, replace(thing, place=place))
    instruction = f"Move the {thing.colour} {thing.shape} to the {PLACES[place]}."
    return Edit("position", scene, target, (thing.place, place), instruction)


def _change_background(rng: random.Random, scene: Scene) -> Edit:
    background = other(rng, BACKGROUNDS, scene.background)
    target = replace(scene, background=background)
    focus = (rng.choice(scene.things).place,)
    return Edit("background", scene, target, focus, f"Change the background to {background}.")


def _new_thing(rng: random.Random, scene: Scene) -> Thing:
    looks = {(thing.shape, thing.colour) for thing in scene.things}
    free = [(s, c) for s in SHAPES for c in COLOURS if (s, c) not in looks]
    shape, colour = rng.choice(free)
    return Thing(_free_place(rng, scene), shape, colour, rng.choice(SIZES), rng.choice(SURFACES))


def _add(rng: random.Random, scene: Scene) -> Edit:
    thing = _new_thing(rng, scene)
    target = make_scene(scene.background, [*scene.things, thing])
    instruction = f"Add a {thing.colour} {thing.shape} at the {PLACES[thing.place]}."
    return Edit("add", scene, target, (rng.choice(scene.things).place, thing.place), instruction)


def _remove(rng: random.Random, scene: Scene) -> Edit:
    thing, kept = rng.sample(scene.things, 2)
    target = make_scene(scene.background, [t for t in scene.things if t != thing])
    instruction = f"Remove the {thing.colour} {thing.shape}."
    return Edit("remove", scene, target, (kept.place, thing.place), instruction)


def _change_count(rng: random.Random, scene: Scene) -> Edit:
    """Add or remove one thing; here the captions give the number instead of the thing."""
    grow = len(scene.things) < MAX_OBJECTS and (len(scene.things) == 2 or rng.random() < 0.5)
    changed = _add(rng, scene) if grow else _remove(rng, scene)
    instruction = f"Let there be {len(changed.target.things)} objects."
    return replace(changed, kind="count", focus=changed.focus[:1], instruction=instruction)


def _swap_attributes(rng: random.Random, scene: Scene) -> Edit:
    """Two things exchange their colours: the same words, bound the other way round."""
    pairs = [
        (a, b)
        for a in scene.things
        for b in scene.things
        if a.place < b.place and a.colour != b.colour and a.shape != b.shape
    ]
    if not pairs:  # two things of one shape: the captions would mean the same; drawn again
        return Edit("swap", scene, scene, (), "")
    a, b = rng.choice(pairs)
    swapped = {a: replace(a, colour=b.colour), b: replace(b, colour=a.colour)}
    target = make_scene(scene.background, [swapped.get(t, t) for t in scene.things])
    instruction = f"Swap the colours of the {a.shape} and the {b.shape}."
    return Edit("swap", scene, target, (a.place, b.place), instruction)


EDITS: dict[str, Callable[[random.Random, Scene], Edit]] = {
    "colour": _one_property("colour", COLOURS),
    "shape": _one_property("shape", SHAPES),
    "size": _one_property("size", SIZES),
    "surface": _one_property("surface", SURFACES),
    "position": _move,
    "background": _change_background,
    "add": _add,
    "remove": _remove,
    "count": _change_count,
    "swap": _swap_attributes,
}


def _tells_things_apart(scene: Scene) -> bool:
    looks = [(thing.shape, thing.colour) for thing in scene.things]
    return len(set(looks)) == len(looks)


def random_edit(rng: random.Random, kind: str, held_out: bool) -> Edit:
    """Draw an edit whose both scenes fall on the asked side of the held-out split."""
    while True:
        most = MAX_OBJECTS - 1 if kind == "add" else MAX_OBJECTS
        edit = EDITS[kind](rng, random_scene(rng, least=2, most=most))
        scenes = (edit.source, edit.target)
        if edit.source == edit.target or not all(map(_tells_things_apart, scenes)):
            continue
        if all(scene.held_out == held_out for scene in scenes):
            return edit


def random_scene_of(
    rng: random.Random, held_out: bool, least: int = 1, most: int = MAX_OBJECTS
) -> Scene:
    """Draw a scene from the asked side of the held-out split."""
    while True:
        scene = random_scene(rng, least, most)
        if scene.held_out == held_out:
            return scene
