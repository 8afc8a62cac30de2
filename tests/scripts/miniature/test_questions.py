"""Questions of the miniature: every answer is the oracle's."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.miniature import questions
from scripts.miniature.world import Scene, random_scene
from tests.scripts.miniature import oracle

SEEDS = st.integers(0, 2**32)


@given(SEEDS)
def test_every_answer_of_a_dialogue_is_true(seed: int) -> None:
    rng = random.Random(seed)
    scene = random_scene(rng)
    turns = questions.dialogue(scene, rng, 10)
    assert len({question for question, _ in turns}) == 10
    for question, answer in turns:
        check_answer(scene, question, answer)


def check_answer(scene: Scene, question: str, answer: str) -> None:
    """A question as a model is asked it, with its instruction at the end."""
    if question.endswith(questions.LETTER_SUFFIX):
        text = question.removesuffix(questions.LETTER_SUFFIX)
        found = re.fullmatch(r"(.*) \(a\) (.*) \(b\) (.*)", text)
        assert found, question
        right = oracle.right_options(scene, found[1], (found[2], found[3]))
        assert [answer] == [f"({letter})" for letter in right], question
    else:
        assert answer == oracle.answer(scene, question.removesuffix(questions.YES_NO_SUFFIX))


def test_yes_and_no_and_both_letters_are_about_as_frequent() -> None:
    rng = random.Random(0)
    answers = [
        answer for _ in range(1500) for _, answer in questions.dialogue(random_scene(rng), rng, 4)
    ]
    for one, other in (("Yes", "No"), ("(a)", "(b)")):
        first, second = answers.count(one), answers.count(other)
        assert first / (first + second) == pytest.approx(0.5, abs=0.06)
