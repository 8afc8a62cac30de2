"""The drawn world: what scenes hold, what an edit changes, and which side of the split they are."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.miniature.world import (
    BACKGROUNDS,
    COLOURS,
    EDITS,
    MAX_OBJECTS,
    PLACES,
    SHAPES,
    SIZES,
    SURFACES,
    Edit,
    Scene,
    Thing,
    make_scene,
    random_edit,
    random_scene,
    random_scene_of,
)

SEEDS = st.integers(0, 2**32)
WORDS = {"shape": SHAPES, "colour": COLOURS, "size": SIZES, "surface": SURFACES}


def check_scene(scene: Scene) -> None:
    assert scene.background in BACKGROUNDS
    assert 1 <= len(scene.things) <= MAX_OBJECTS
    places = [thing.place for thing in scene.things]
    assert places == sorted(set(places)), "one thing a place, in reading order"
    assert set(places) <= set(range(len(PLACES)))
    looks = {(thing.shape, thing.colour) for thing in scene.things}
    assert len(looks) == len(scene.things), "shape and colour tell things apart"
    for thing in scene.things:
        assert all(getattr(thing, name) in words for name, words in WORDS.items())


@given(SEEDS, st.integers(1, 5))
def test_scenes_are_well_formed_and_depend_on_the_seed_alone(seed: int, least: int) -> None:
    scene = random_scene(random.Random(seed), least=least)
    check_scene(scene)
    assert len(scene.things) >= least
    assert scene == random_scene(random.Random(seed), least=least)


def test_rows_and_columns_of_the_grid() -> None:
    thing = Thing(PLACES.index("bottom left"), "circle", "red", "large", "plain")
    assert (thing.row, thing.column) == (2, 0)
    centre = replace(thing, place=PLACES.index("centre"))
    assert (centre.row, centre.column) == (1, 1)


def test_equal_pictures_are_equal_scenes_whatever_the_order_of_their_things() -> None:
    things = [
        Thing(place, "circle", colour, "large", "plain")
        for place, colour in ((7, "red"), (0, "blue"), (4, "green"))
    ]
    scene = make_scene("sand", things)
    assert scene == make_scene("sand", things[::-1])
    assert scene.held_out == make_scene("sand", things[::-1]).held_out


@given(SEEDS, st.booleans())
def test_a_scene_of_one_side_is_on_that_side(seed: int, held_out: bool) -> None:
    scene = random_scene_of(random.Random(seed), held_out)
    assert scene.held_out is held_out
    # The side is a function of the content: the same scene built again stays there.
    assert make_scene(scene.background, list(scene.things)).held_out is held_out


def test_about_one_scene_in_eight_is_held_out() -> None:
    rng = random.Random(0)
    share = sum(random_scene(rng).held_out for _ in range(4000)) / 4000
    assert share == pytest.approx(1 / 8, abs=4 * (1 / 8 * 7 / 8 / 4000) ** 0.5)


def without(scene: Scene, place: int) -> Counter[Thing]:
    return Counter(thing for thing in scene.things if thing.place != place)


def changed_fields(edit: Edit) -> dict[str, int]:
    """How many things differ in each field, for an edit that keeps all places."""
    pairs = list(zip(edit.source.things, edit.target.things, strict=True))
    assert [a.place for a, _ in pairs] == [b.place for _, b in pairs]
    changes = Counter(
        name for a, b in pairs for name in WORDS if getattr(a, name) != getattr(b, name)
    )
    return dict(changes)


def check_swap(edit: Edit) -> None:
    first, second = edit.focus
    before = {thing.place: thing for thing in edit.source.things}
    after = {thing.place: thing for thing in edit.target.things}
    assert before[first].colour == after[second].colour != before[second].colour
    assert before[second].colour == after[first].colour
    assert before[first].shape != before[second].shape, "else the captions mean the same"
    assert changed_fields(edit) == {"colour": 2}


def check_change(edit: Edit) -> None:
    """The edit changes what its kind says, and nothing else."""
    source, target = edit.source, edit.target
    if edit.kind == "background":
        assert source.background != target.background
        assert source.things == target.things
        return
    assert source.background == target.background
    if edit.kind in WORDS:
        assert changed_fields(edit) == {edit.kind: 1}
        [place] = edit.focus
        assert without(source, place) == without(target, place)
    elif edit.kind == "position":
        old, new = edit.focus
        assert without(source, old) == without(target, new)
        [moved] = set(source.things) - set(target.things)
        assert replace(moved, place=new) in target.things
    elif edit.kind == "swap":
        check_swap(edit)
    else:
        more, fewer = (
            (target, source) if len(target.things) > len(source.things) else (source, target)
        )
        assert Counter(more.things) - Counter(fewer.things) == Counter(
            set(more.things) - set(fewer.things)
        )
        assert len(more.things) == len(fewer.things) + 1
        if edit.kind != "count":
            assert (more is target) == (edit.kind == "add")


@pytest.mark.parametrize("kind", EDITS)
@given(SEEDS, st.booleans())
def test_an_edit_changes_exactly_what_it_says(kind: str, seed: int, held_out: bool) -> None:
    edit = random_edit(random.Random(seed), kind, held_out)
    assert edit.kind == kind
    check_scene(edit.source)
    check_scene(edit.target)
    assert edit.source.held_out == edit.target.held_out == held_out
    assert edit.source != edit.target
    check_change(edit)


@given(SEEDS)
def test_instructions_name_what_changes(seed: int) -> None:
    rng = random.Random(seed)
    colour = random_edit(rng, "colour", held_out=False)
    [new] = set(colour.target.things) - set(colour.source.things)
    [old] = set(colour.source.things) - set(colour.target.things)
    assert colour.instruction == f"Make the {old.colour} {old.shape} {new.colour}."
    moved = random_edit(rng, "position", held_out=False)
    assert moved.instruction.endswith(f"to the {PLACES[moved.focus[1]]}.")
    count = random_edit(rng, "count", held_out=False)
    assert count.instruction == f"Let there be {len(count.target.things)} objects."


def test_training_and_held_out_scenes_share_none() -> None:
    rng = random.Random(1)
    train = {random_scene_of(rng, held_out=False, least=1) for _ in range(3000)}
    held_out = {random_scene_of(rng, held_out=True, least=1) for _ in range(1000)}
    # Scenes of one thing are few enough (8 x 6 x 2 x 3 x 9 x 5) to come up on both sides.
    singles = [{scene for scene in side if len(scene.things) == 1} for side in (train, held_out)]
    assert all(singles)
    assert not train & held_out
