"""What the language model reads: true answers, and a course that goes from easy to hard."""

from __future__ import annotations

import random
import re

import pytest

from scripts.miniature.language import BRIEF_REQUESTS
from scripts.miniature.lessons import (
    COURSE,
    REPEAT_REQUEST,
    Messages,
    conversation,
    first,
    notes,
    options,
    presence,
    retelling,
)
from scripts.miniature.world import BACKGROUNDS, SHAPES, Scene, random_scene
from tests.scripts.miniature import oracle
from tests.scripts.miniature.test_questions import check_answer


def scene_of(words: str) -> Scene | None:
    """The scene that the text before a lesson's first request tells of; None for loose notes."""
    if "background of the whole picture" in words:
        return oracle.read_long(words)
    return oracle.read_brief(words) if "objects, " not in words and ": a " in words else None


def only_turn(messages: Messages) -> tuple[str, str, str]:
    """Text, request and answer of a lesson of one turn."""
    user, assistant = messages
    words, _, request = user["content"].partition("\n")
    return words, request, assistant["content"]


def test_a_lesson_asks_about_the_text_it_gives_and_answers_truly() -> None:
    rng = random.Random(0)
    known = 0
    for _ in range(200):
        messages = conversation(rng, progress=0.5)
        assert [m["role"] for m in messages] == ["user", "assistant"] * (len(messages) // 2)
        words, _, first = messages[0]["content"].partition("\n")
        scene = scene_of(words)
        if scene is None:
            continue
        known += 1
        assert not scene.held_out
        questions = [first] + [m["content"] for m in messages[2::2]]
        for question, answer in zip(questions, [m["content"] for m in messages[1::2]], strict=True):
            if question in BRIEF_REQUESTS:
                assert oracle.read_brief(answer) == scene
            else:
                check_answer(scene, question, answer)
    assert known > 100


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


@pytest.mark.parametrize(
    ("progress", "told"),
    [(0, "a"), (0.25, "a"), (0.42, "ab"), (0.59, "abc"), (0.75, "abcd"), (0.99, "abcd")],
)
def test_values_come_one_at_a_time(progress: float, told: str) -> None:
    assert "".join(first(tuple("abcd"), progress)) == told


def test_retelling_says_the_notes_again_or_in_order() -> None:
    rng = random.Random(0)
    requests = set()
    for _ in range(40):
        words, request, answer = only_turn(retelling(rng, progress=0.5))
        requests.add(request == REPEAT_REQUEST)
        if request == REPEAT_REQUEST:
            assert answer == words
        else:
            told = {(t.shape, t.colour) for t in oracle.read_brief(answer).things}
            noted = re.findall(r"(\w+) (\w+) (?:at|in|on) the", words)
            assert told == {(shape, colour) for colour, shape in noted}
    assert requests == {True, False}


@pytest.mark.parametrize(("progress", "shapes"), [(0.0, SHAPES[:1]), (1.0, SHAPES)])
def test_presence_begins_with_one_shape(progress: float, shapes: tuple[str, ...]) -> None:
    rng = random.Random(0)
    asked, answers = set(), []
    for _ in range(400):
        words, request, answer = only_turn(presence(rng, progress))
        [shape] = re.findall(r"^Is there a (\w+) in the image\?$", request)
        asked.add(shape)
        answers.append(answer)
        assert answer == ("Yes" if shape in re.findall(r"\w+", words) else "No")
    assert asked == set(shapes)
    assert 0.4 < answers.count("Yes") / len(answers) < 0.6


def test_options_begin_with_the_background_and_come_either_way_round() -> None:
    rng = random.Random(0)
    letters = []
    for _ in range(200):
        words, request, answer = only_turn(options(rng, progress=0.0))
        if "(a)" not in request:
            continue
        letters.append(answer)
        offered = dict(re.findall(r"(\([ab]\)) (\w+)", request))
        assert set(offered.values()) <= set(BACKGROUNDS)
        assert offered[answer] in words.split(", ")
    assert 0.35 < letters.count("(a)") / len(letters) < 0.65


def test_the_course_ends_with_conversations() -> None:
    assert COURSE[-1].lesson is conversation
