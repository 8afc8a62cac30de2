"""What the language model reads: true answers, about the text or the gist it is given."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

import pytest

from mllm.template import IMAGE_TOKEN
from scripts.miniature.language import BRIEF_REQUESTS
from scripts.miniature.lessons import (
    CHECK_REQUEST,
    COURSE,
    GRID,
    LIST_REQUEST,
    Lesson,
    choosing,
    conversation,
    first,
    gist,
    listing,
    notes,
    questioning,
    told_in_words,
)
from scripts.miniature.world import SHAPES, Scene, Thing, random_scene
from tests.scripts.miniature import oracle
from tests.scripts.miniature.test_questions import check_answer


def scene_of_gist(fields: tuple[str, ...]) -> Scene:
    """The scene that a gist's words tell of; a thing is told of in four fields, or some of them."""
    things = {}
    ground = ""
    for field in fields:
        found = re.fullmatch(
            rf"(?:({oracle.SIZE}) ({oracle.SURFACE}) ({oracle.COLOUR}) ({oracle.SHAPE}) )?"
            rf"({oracle.WHERE}) ({oracle.GROUND})",
            field,
        )
        assert found, field
        size, surface, colour, shape, place, ground = found.groups()
        if shape:
            number = oracle.PLACES.index(place)
            things[number] = Thing(number, shape, colour, size, surface)
    return Scene(ground, tuple(things[number] for number in sorted(things)))


def scene_of(lesson: Lesson) -> tuple[Scene | None, str]:
    """The scene told of before the first request, None for loose notes; and that request."""
    words, _, request = lesson.messages[0]["content"].partition("\n")
    if lesson.gist:
        assert words == IMAGE_TOKEN * len(lesson.gist)
        return scene_of_gist(lesson.gist), request
    assert IMAGE_TOKEN not in words
    if "background of the whole picture" in words:
        return oracle.read_long(words), request
    return oracle.read_brief(words) if ": a " in words else None, request


def test_a_gist_tells_every_thing_where_it_is() -> None:
    rng = random.Random(0)
    for _ in range(50):
        scene = random_scene(rng)
        fields = gist(scene, rng)
        assert len(fields) == GRID**2
        assert scene_of_gist(fields) == scene
        # Reading order: the first field is the top left corner, the last the bottom right one.
        assert " top left " in f" {fields[0]}"
        assert "bottom right" in fields[-1]
        assert " top right " in f" {fields[GRID - 1]}"


def test_notes_say_the_whole_scene() -> None:
    rng = random.Random(0)
    for _ in range(50):
        scene = random_scene(rng)
        text = notes(scene, rng)
        number = len(scene.things)
        assert f"{number} objects" in text
        assert scene.background in text.split(", ")
        found = re.findall(oracle.BRIEF.pattern.removeprefix("a "), text)
        looks = {
            (t.size, t.surface, t.colour, t.shape, oracle.PLACES[t.place]) for t in scene.things
        }
        assert set(found) == looks


@pytest.mark.parametrize("lesson_of", [questioning, choosing, conversation])
@pytest.mark.parametrize("progress", [0.0, 0.9])
def test_a_lesson_asks_about_what_it_gives_and_answers_truly(
    lesson_of: Callable[[random.Random, float], Lesson], progress: float
) -> None:
    rng = random.Random(0)
    known = 0
    for _ in range(100):
        lesson = lesson_of(rng, progress)
        scene, request = scene_of(lesson)
        said = [message["content"] for message in lesson.messages]
        assert [m["role"] for m in lesson.messages] == ["user", "assistant"] * (len(said) // 2)
        if scene is None:
            continue
        known += 1
        assert not scene.held_out
        for question, answer in zip([request, *said[2::2]], said[1::2], strict=True):
            if question in BRIEF_REQUESTS:
                assert oracle.read_brief(answer) == scene
            else:
                check_answer(scene, question, answer)
    assert known > 70


def test_lists_name_every_shape_or_every_thing() -> None:
    rng = random.Random(0)
    requests = set()
    for _ in range(60):
        lesson = listing(rng, 0.5)
        scene, request = scene_of(lesson)
        assert scene is not None
        requests.add(request)
        entries = re.split("[,;] ", lesson.messages[1]["content"])
        if request == CHECK_REQUEST:
            present = {thing.shape for thing in scene.things}
            told = dict(entry.split() for entry in entries)
            assert told == {shape: "yes" if shape in present else "no" for shape in SHAPES}
            continue
        assert len(entries) == len(scene.things)
        for entry in entries:
            name, _, told = entry.partition(": ")
            thing = oracle.named(scene, name.removeprefix("the "))
            found = re.fullmatch(oracle.BRIEF.pattern.removeprefix("a "), told)
            assert found
            place = oracle.PLACES[thing.place]
            assert found.groups() == (thing.size, thing.surface, thing.colour, thing.shape, place)
    assert requests == {CHECK_REQUEST, LIST_REQUEST}


@pytest.mark.parametrize(
    ("progress", "told"),
    [(0, "a"), (0.16, "a"), (0.34, "ab"), (0.51, "abc"), (0.67, "abcd"), (0.99, "abcd")],
)
def test_values_come_one_at_a_time(progress: float, told: str) -> None:
    assert "".join(first(tuple("abcd"), progress)) == told


def test_options_begin_with_the_background_and_come_either_way_round() -> None:
    rng = random.Random(0)
    letters = []
    for _ in range(100):
        said = [m["content"] for m in choosing(rng, 0.0).messages]
        for question, answer in zip(said[::2], said[1::2], strict=True):
            if "(a)" in question:
                assert "background" in question
                letters.append(answer)
    assert 0.4 < letters.count("(a)") / len(letters) < 0.6


def test_the_course_goes_from_lists_to_conversations_in_gists_and_words() -> None:
    lessons = [chapter.lesson for chapter in COURSE]
    assert lessons[0] is listing
    assert lessons[-1] is conversation
    rng = random.Random(0)
    assert {bool(conversation(rng, 1.0).gist) for _ in range(20)} == {True, False}
    assert not told_in_words(rng).gist
