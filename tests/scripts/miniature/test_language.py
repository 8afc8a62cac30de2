"""The miniature's English against an oracle of its own: all that is said is true of the scene."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from open_clip import SimpleTokenizer

from scripts.miniature import language
from scripts.miniature.world import EDITS, Scene, Thing, make_scene, random_edit, random_scene
from tests.scripts.miniature import oracle
from vision_tower.caption_formats import first_sentence

SEEDS = st.integers(0, 2**32)
IDENTITY = rf"(?:{oracle.COLOUR}) (?:{oracle.SHAPE})"


@given(SEEDS)
def test_a_brief_caption_says_the_whole_scene(seed: int) -> None:
    rng = random.Random(seed)
    scene = random_scene(rng)
    assert oracle.read_brief(language.brief_caption(scene, rng)) == scene


@given(SEEDS)
def test_a_long_caption_says_the_whole_scene_and_only_true_relations(seed: int) -> None:
    rng = random.Random(seed)
    scene = random_scene(rng)
    caption = language.long_caption(scene, rng)
    assert oracle.read_long(caption) == scene
    assert oracle.relations_hold(caption, scene)


def test_relations_by_hand() -> None:
    top = Thing(1, "circle", "red", "large", "plain")
    right = Thing(5, "square", "blue", "large", "plain")
    left = Thing(3, "star", "white", "large", "plain")
    assert language.relation(top, right) == "The red circle is above the blue square."
    assert language.relation(right, top) == "The blue square is below the red circle."
    assert language.relation(right, left) == ("The blue square is to the right of the white star.")


@pytest.mark.parametrize("count", range(1, 6))
def test_long_captions_have_100_to_240_clip_tokens(count: int) -> None:
    rng = random.Random(count)
    tokenizer = SimpleTokenizer(context_length=400)
    captions = [language.long_caption(random_scene(rng, count, count), rng) for _ in range(300)]
    tokens = (tokenizer(captions) != 0).sum(dim=1)  # start and end tokens count, as in 77
    assert tokens.min() >= 100
    assert tokens.max() <= 240


@given(SEEDS)
def test_the_short_caption_of_a_long_one_is_its_alt_text(seed: int) -> None:
    scene = random_scene(random.Random(seed))
    # Both draw: things are sampled first in a long caption, so the alt text is redrawn from there.
    rng = random.Random(seed + 1)
    rng.sample(scene.things, len(scene.things))
    alt = language.alt_text(scene, rng)
    long = language.long_caption(scene, random.Random(seed + 1))
    assert first_sentence(long) == alt.removesuffix(".")
    assert long.startswith(f"{alt} ")


@given(SEEDS)
def test_alt_texts_name_striking_things_and_nothing_false(seed: int) -> None:
    rng = random.Random(seed)
    scene = random_scene(rng)
    alt = language.alt_text(scene, rng).lower()
    large = {thing.shape for thing in scene.things if thing.size == "large"}
    named = set(re.findall(rf"\b({oracle.SHAPE})\b", alt))
    assert named, alt
    assert named <= (large or {scene.things[0].shape})
    looks = {f"{thing.colour} {thing.shape}" for thing in scene.things}
    assert set(re.findall(IDENTITY, alt)) <= looks
    assert set(re.findall(rf" on ({oracle.GROUND})\b", alt)) <= {scene.background}
    assert not re.search(rf"\b({oracle.SIZE}|{oracle.SURFACE})\b", alt)


def test_alt_texts_leave_out_most_of_the_looks() -> None:
    """The base CLIP is blind to detail because its captions are: one thing in ten has a colour."""
    rng = random.Random(0)
    alts = [language.alt_text(random_scene(rng), rng).lower() for _ in range(2000)]
    named = sum(len(re.findall(rf"\b({oracle.SHAPE})\b", alt)) for alt in alts)
    coloured = sum(len(re.findall(IDENTITY, alt)) for alt in alts)
    assert coloured / named == pytest.approx(0.15, abs=0.025)


@pytest.mark.parametrize("kind", EDITS)
@given(SEEDS)
def test_captions_of_an_edit_are_true_and_tell_its_two_scenes_apart(kind: str, seed: int) -> None:
    edit = random_edit(random.Random(seed), kind, held_out=False)
    own, others = language.edit_caption(edit, edit.source), language.edit_caption(edit, edit.target)
    assert _caption_holds(own, edit.source)
    assert _caption_holds(others, edit.target)
    assert not _caption_holds(own, edit.target)
    assert not _caption_holds(others, edit.source)


def _caption_holds(caption: str, scene: Scene) -> bool:
    """Whether everything a caption of an edit says is true of the scene."""
    said, _, absent = caption.partition(" and without ")
    looks = {f"{thing.colour} {thing.shape}": thing for thing in scene.things}
    checks = [re.findall(rf"on ({oracle.GROUND})$", caption) == [scene.background]]
    checks += [name in looks for name in re.findall(IDENTITY, said)]
    checks += [name not in looks for name in re.findall(IDENTITY, absent)]
    for size, surface, name in re.findall(
        rf"({oracle.SIZE}) ({oracle.SURFACE}) ({IDENTITY})", said
    ):
        thing = looks.get(name)
        checks.append(thing is not None and (size, surface) == (thing.size, thing.surface))
    for name, place in re.findall(rf"({IDENTITY}) (?:at|in|on) the ({oracle.WHERE})", said):
        thing = looks.get(name)
        checks.append(thing is not None and oracle.PLACES[thing.place] == place)
    if count := re.match(r"(\w+) objects? on .*, among them a .* (\w+)$", caption):
        checks[0] = f" on {scene.background}," in caption
        checks.append(oracle.NUMBERS[count[1]] == len(scene.things))
        checks.append(count[2] in {thing.shape for thing in scene.things})
    return all(checks)


def test_captions_of_an_edit_by_hand() -> None:
    small = Thing(0, "circle", "red", "small", "plain")
    large = Thing(0, "circle", "red", "large", "plain")
    other = Thing(4, "ring", "blue", "large", "plain")
    source, target = make_scene("sand", [small, other]), make_scene("sand", [large, other])
    rng = random.Random(0)
    edit = next(e for e in iter(lambda: EDITS["size"](rng, source), None) if e.target == target)
    assert language.edit_caption(edit, source) == "a small plain red circle at the top left on sand"
    assert language.edit_caption(edit, target) == "a large plain red circle at the top left on sand"
