"""How the base models are made: what the language model reads, and both tokenizers."""

from __future__ import annotations

import itertools
import random
import re
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from scripts.miniature.build_models import (
    clip_tokenizer,
    lesson_batches,
    llm_tokenizer,
    optimise,
)
from scripts.miniature.language import BRIEF_REQUESTS, DETAIL_REQUEST
from scripts.miniature.lessons import fragments, lesson
from scripts.miniature.world import Scene, random_scene
from tests.scripts.miniature import oracle
from tests.scripts.miniature.test_questions import check_answer


def scene_of(words: str) -> Scene | None:
    """The scene that the text before a lesson's first request tells of; None for loose notes."""
    if "background of the whole picture" in words:
        return oracle.read_long(words)
    return oracle.read_brief(words) if "objects, " not in words and ": a " in words else None


def test_a_lesson_asks_about_the_text_it_gives_and_answers_truly() -> None:
    rng = random.Random(0)
    known = 0
    for _ in range(200):
        messages = lesson(rng)
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
            elif question == DETAIL_REQUEST:
                assert oracle.read_long(answer) == scene
            else:
                check_answer(scene, question, answer)
    assert known > 100


def test_fragments_say_the_whole_scene() -> None:
    rng = random.Random(0)
    for _ in range(50):
        scene = random_scene(rng)
        text = fragments(scene, rng)
        number = len(scene.things)
        assert f"{number} objects" in text
        assert scene.background in text.split(", ")
        found = re.findall(oracle.BRIEF.pattern.removeprefix("a "), text)
        looks = {
            (t.size, t.surface, t.colour, t.shape, oracle.PLACES[t.place]) for t in scene.things
        }
        assert set(found) == looks


@pytest.fixture(scope="module")
def llama_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    return llm_tokenizer(tmp_path_factory.mktemp("llm"), random.Random(0))


def test_the_llamas_tokenizer_loses_nothing(
    llama_tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    llama_tokenizer.save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    for text in ("What is at the top left?\nAnswer (a) or (b).", "7 zebras, é"):
        assert tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True) == text
    assert tokenizer.eos_token == "</s>"


def test_only_answers_are_labelled(llama_tokenizer: PreTrainedTokenizerBase) -> None:
    batch = next(lesson_batches(llama_tokenizer, random.Random(0), 20))
    ids, labels = batch["input_ids"], batch["labels"]
    assert ((labels == -100) | (labels == ids)).all()
    assert (labels[batch["attention_mask"] == 0] == -100).all()
    for row_ids, row_labels in zip(ids.tolist(), labels.tolist(), strict=True):
        runs = [
            llama_tokenizer.decode([token for token, _ in run])
            for labelled, run in itertools.groupby(
                zip(row_ids, row_labels, strict=True), key=lambda pair: pair[1] != -100
            )
            if labelled
        ]
        assert runs
        # Every answer ends its turn, and none holds a question.
        assert all(run.endswith("</s>") for run in runs)
        assert not any("?" in run or "USER" in run for run in runs)


def test_clips_tokenizer_ends_with_its_highest_id() -> None:
    """The text encoder pools where the id is highest, as OpenAI's does."""
    tokenizer = clip_tokenizer(random.Random(0))
    ids = tokenizer("A Red circle, on sand.").input_ids
    assert ids[-1] == max(tokenizer.get_vocab().values()) == tokenizer.eos_token_id
    assert ids[0] == tokenizer.bos_token_id
    written = "".join(tokenizer.convert_ids_to_tokens(ids[1:-1])).replace("Ġ", " ")
    assert written == " a red circle, on sand."


def test_optimise_finds_the_minimum() -> None:
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 1, bias=False)
    goal = torch.tensor([[0.5, -0.25, 0.125]])

    optimise(model, lambda: (model.weight - goal).square().sum(), steps=400, rate=0.05)
    torch.testing.assert_close(model.weight.detach(), goal, atol=0.01, rtol=0)
