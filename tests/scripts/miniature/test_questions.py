"""Questions of the miniature: every answer is the oracle's."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.miniature import questions
from scripts.miniature.world import Scene, random_edit, random_scene
from tests.scripts.miniature import oracle

SEEDS = st.integers(0, 2**32)


@given(SEEDS)
def test_every_answer_of_a_dialogue_is_true(seed: int) -> None:
    rng = random.Random(seed)
    scene = random_scene(rng)
    turns = questions.dialogue(scene, rng)
    assert len({question for question, _ in turns}) == len(turns)
    for question, answer in turns:
        check_answer(scene, question, answer)
    short = [question.endswith(questions.SHORT_SUFFIX) for question, _ in turns]
    offering = [question.endswith(questions.LETTER_SUFFIX) for question, _ in turns]
    # The first question says how to answer, or every one does.
    assert all(offering) or short == [True] + [False] * (len(turns) - 1)


@given(SEEDS)
def test_a_question_about_two_scenes_means_the_same_thing_in_both(seed: int) -> None:
    rng = random.Random(seed)
    edit = random_edit(rng, rng.choice(("colour", "shape", "size", "surface")), held_out=False)
    places = edit.focus
    things = [t for s in (edit.source, edit.target) for t in s.things if t.place in places]
    question = questions.question_about(edit.kind, things[0], edit.source, edit.target)
    for scene, thing in zip((edit.source, edit.target), things, strict=True):
        assert oracle.answer(scene, question) == getattr(thing, edit.kind)


def test_details_do_not_ask_for_shapes_and_colours_alike() -> None:
    """The shape of the red object would answer for the colour of the circle."""
    rng = random.Random(0)
    asked = set()
    for _ in range(200):
        text = " ".join(question for question, _ in questions.details(random_scene(rng), rng))
        kinds = {kind for kind in ("colour", "shape") if f"the {kind} of" in text}
        assert len(kinds) < 2
        asked |= kinds
    assert asked == {"colour", "shape"}


def check_answer(scene: Scene, question: str, answer: str) -> None:
    """A question as a model is asked it, with its instruction at the end."""
    if question.endswith(questions.LETTER_SUFFIX):
        text = question.removesuffix(questions.LETTER_SUFFIX)
        found = re.fullmatch(r"(.*) \(a\) (.*) \(b\) (.*)", text)
        assert found, question
        right = oracle.right_options(scene, found[1], (found[2], found[3]))
        assert [answer] == [f"({letter})" for letter in right], question
    else:
        assert answer == oracle.answer(scene, question.removesuffix(questions.SHORT_SUFFIX))


def test_yes_and_no_and_both_letters_are_about_as_frequent() -> None:
    rng = random.Random(0)
    answers = [
        answer for _ in range(1500) for _, answer in questions.dialogue(random_scene(rng), rng)
    ]
    for one, other in (("Yes", "No"), ("(a)", "(b)")):
        first, second = answers.count(one), answers.count(other)
        assert first / (first + second) == pytest.approx(0.5, abs=0.06)
