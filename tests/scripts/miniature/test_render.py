"""The renderer: what is drawn is what the scene says, and no two pictures are equal."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.miniature.render import _GROUND, _INK, PICTURE_SIZE, render
from scripts.miniature.world import (
    BACKGROUNDS,
    COLOURS,
    PLACES,
    SHAPES,
    Scene,
    Thing,
    make_scene,
    random_scene,
)

CELL = PICTURE_SIZE // 3


def draw(scene: Scene, seed: int = 0) -> np.ndarray:
    """Pixels [height, width, 3], 0-1."""
    return np.asarray(render(scene, np.random.default_rng(seed))) / 255


def mean_picture(scene: Scene, copies: int = 40) -> np.ndarray:
    """Light, grain and place averaged out."""
    return np.mean([draw(scene, seed) for seed in range(copies)], axis=0)


def coverage(size: str, shape: str) -> float:
    """How much of its cell a thing covers, on average: where a picture leaves the background."""
    thing = Thing(4, shape, "red", size, "plain")
    background = draw(make_scene("night", []))
    return np.mean(
        [
            (np.abs(draw(make_scene("night", [thing]), seed) - background).max(axis=2) > 0.3).sum()
            for seed in range(12)
        ]
    )


@given(st.integers(0, 2**32))
@settings(max_examples=15)
def test_pictures_are_rgb_and_depend_on_scene_and_generator_alone(seed: int) -> None:
    scene = random_scene(random.Random(seed))
    picture = render(scene, np.random.default_rng(seed))
    assert picture.mode == "RGB"
    assert picture.size == (PICTURE_SIZE, PICTURE_SIZE)
    assert np.asarray(picture).dtype == np.uint8
    assert picture.tobytes() == render(scene, np.random.default_rng(seed)).tobytes()


def test_no_two_pictures_of_one_scene_are_equal() -> None:
    scene = random_scene(random.Random(0))
    generator = np.random.default_rng(0)
    pictures = {render(scene, generator).tobytes() for _ in range(50)}
    assert len(pictures) == 50


@pytest.mark.parametrize("shape", SHAPES)
def test_a_large_thing_covers_more_pixels(shape: str) -> None:
    assert coverage("large", shape) > 1.8 * coverage("small", shape) > 0


@pytest.mark.parametrize("colour", COLOURS)
def test_the_middle_of_a_plain_square_has_its_ink(colour: str) -> None:
    scene = make_scene("sand", [Thing(4, "square", colour, "large", "plain")])
    middle = mean_picture(scene)[PICTURE_SIZE // 2, PICTURE_SIZE // 2]
    nearest = min(_INK, key=lambda name: float(np.abs(np.array(_INK[name]) - middle).sum()))
    assert nearest == colour


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_an_empty_place_has_the_colour_of_the_background(background: str) -> None:
    scene = make_scene(background, [Thing(0, "star", "red", "small", "plain")])
    corner = mean_picture(scene)[-CELL:, -CELL:].mean(axis=(0, 1))
    nearest = min(_GROUND, key=lambda name: float(np.abs(np.array(_GROUND[name]) - corner).sum()))
    assert nearest == background


@pytest.mark.parametrize("place", range(len(PLACES)))
def test_a_thing_stands_in_its_cell(place: int) -> None:
    scene = make_scene("night", [Thing(place, "circle", "white", "large", "plain")])
    light = mean_picture(scene, copies=10).mean(axis=2)
    cells = light.reshape(3, CELL, 3, CELL).mean(axis=(1, 3))
    assert cells.argmax() == place
    row, column = divmod(int(cells.argmax()), 3)
    vertical, horizontal = PLACES[place].partition(" ")[::2]
    assert (row == 0) == ("top" in (vertical, horizontal))
    assert (row == 2) == ("bottom" in (vertical, horizontal))
    assert (column == 0) == ("left" in (vertical, horizontal))
    assert (column == 2) == ("right" in (vertical, horizontal))


@pytest.mark.parametrize("surface", ["striped", "dotted"])
def test_a_pattern_is_a_second_ink(surface: str) -> None:
    """A patterned square varies within itself, a plain one only by grain and light."""

    def spread(name: str) -> float:
        scene = make_scene("sand", [Thing(4, "square", "white", "large", name)])
        middle = slice(PICTURE_SIZE // 2 - 3, PICTURE_SIZE // 2 + 3)
        return float(np.mean([draw(scene, s)[middle, middle].mean(axis=2).std() for s in range(9)]))

    assert spread(surface) > 3 * spread("plain")


def test_stripes_and_dots_differ_in_how_they_repeat() -> None:
    """Along one direction stripes stay as they are; dots do not."""

    def variation(name: str) -> float:
        scene = make_scene("sand", [Thing(4, "square", "white", "large", name)])
        middle = slice(PICTURE_SIZE // 2 - 4, PICTURE_SIZE // 2 + 4)
        found = []
        for seed in range(20):
            patch = draw(scene, seed)[middle, middle].mean(axis=2)
            # Neighbours along the falling and the rising diagonal.
            falling = np.abs(patch[1:, 1:] - patch[:-1, :-1]).mean()
            rising = np.abs(patch[1:, :-1] - patch[:-1, 1:]).mean()
            found.append(min(falling, rising) / max(falling, rising))
        return float(np.mean(found))

    assert variation("striped") < 0.7 * variation("dotted")
