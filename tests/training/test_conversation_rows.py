import json
import logging

import numpy as np
import pytest
from transformers import AutoProcessor

from mllm.assemble import assemble
from mllm.collate import Collator
from mllm.conversation_files import Conversations
from mllm.conversations import ConversationError
from mllm.packs import OpenedRows
from tests.tiny_llava import example_rows, row, write_language_model, write_rows, write_tower
from training.conversation_rows import (
    Measured,
    measure,
    open_conversations,
    packs_of,
    require_within_budget,
    weighted,
)


@pytest.fixture(scope="module")
def collator(tmp_path_factory):
    root = tmp_path_factory.mktemp("mllm")
    tower, llm = write_tower(root / "tower"), write_language_model(root / "llm")
    assemble(str(tower), str(llm), root / "mllm", system="")
    return Collator(AutoProcessor.from_pretrained(root / "mllm"), 4, 64)


SAID = ("nothing is left", "no picture", "must be")


def written(folder, rows):
    return Conversations([write_rows(folder, rows)])


def test_rows_are_measured_as_they_are_collated(collator, tmp_path):
    rows = written(tmp_path, example_rows())
    found = measure(rows, collator)
    assert found.problems == [""] * 16
    for index in range(16):
        batch = collator([[OpenedRows(rows)[index]]])
        assert found.tokens[index] == batch["row_lengths"][0]
        assert found.pictured[index] == bool(rows[index].pictures)


def test_broken_rows_are_told_and_have_no_length(collator, tmp_path):
    long = row("long", None, "what " * 100, "one")
    gone = row("gone", "gone.png", "what", "one")
    rows = written(tmp_path, [row("a", None, "q", "a"), long, gone, {"id": "bad"}])
    (tmp_path / "gone.png").unlink()
    found = measure(rows, collator)
    assert (found.tokens > 0).tolist() == [True, False, False, False]
    assert found.problems[0] == ""
    for problem, told in zip(found.problems[1:], SAID, strict=True):
        assert told in problem


def test_what_was_measured_is_kept_but_pictures_are_looked_up_again(
    collator, tmp_path, monkeypatch
):
    rows = written(tmp_path, [row("a", "a.png", "q", "a")])
    first = measure(rows, collator)
    monkeypatch.setattr(Collator, "encode", lambda *_: pytest.fail("it is tokenised again"))
    assert measure(rows, collator).tokens.tolist() == first.tokens.tolist()
    (tmp_path / "a.png").unlink()
    assert "there is no picture" in measure(rows, collator).problems[0]


def test_what_cannot_be_a_path_is_no_picture_either(collator, tmp_path):
    """A picture written where its path should be: longer than any file system's names."""
    talk = row("a", None, "<image>", "a")
    (tmp_path / "rows.json").write_text(json.dumps([{**talk, "image": "abcd" * 999}]))
    found = measure(Conversations([tmp_path / "rows.json"]), collator)
    assert "there is no picture" in found.problems[0]
    assert len(found.problems[0]) < 999


def test_another_length_is_another_measure(collator, tmp_path):
    rows = written(tmp_path, [row("a", None, "what is in the picture", "a circle square")])
    whole = measure(rows, collator).tokens[0]
    shorter = Collator(collator.processor, 4, int(whole) - 1)
    assert measure(rows, shorter).tokens[0] == whole - 1


def found(*tokens, problem="row 3: broken"):
    problems = ["" if length else problem for length in tokens]
    return Measured(np.array(tokens), np.ones(len(tokens), bool), problems)


def test_a_few_broken_rows_are_left_out_and_told_of(caplog):
    with caplog.at_level(logging.WARNING):
        require_within_budget([found(1, 0, 1, 1), found(1)], 0.2)
    assert "1 of 5 rows are left out" in caplog.text
    assert "row 3: broken" in caplog.text


def test_too_many_broken_rows_stop():
    with pytest.raises(ConversationError, match=r"row 3: broken \(2 of 4 .* allows 1\."):
        require_within_budget([found(1, 0, 0, 1)], 0.3)


def test_weights_repeat_rows_and_draw_a_part_of_them():
    chosen = weighted([found(*[1] * 10), found(*[1] * 10)], [2.0, 0.5], seed=1)
    first, second = chosen[chosen < 10], chosen[chosen >= 10]
    assert sorted(first) == sorted([*range(10)] * 2)
    assert len(set(second)) == len(second) == 5
    again = weighted([found(*[1] * 10), found(*[1] * 10)], [2.0, 0.5], seed=1)
    assert chosen.tolist() == again.tolist()
    other = weighted([found(*[1] * 10), found(*[1] * 10)], [2.0, 0.5], seed=2)
    assert set(other[other >= 10]) != set(second)


def test_broken_rows_have_no_weight():
    assert weighted([found(1, 0, 1), found(0, 1)], [1.0, 1.0], seed=0).tolist() == [0, 2, 4]


def test_packs_and_their_lengths():
    seeing = np.ones(4, bool)
    packs, lengths = packs_of(np.array([7, 5, 3, 3]), seeing, 10, 2, seed=0)
    assert sorted(len(one) for one in packs) == [2, 2]
    assert sorted(lengths) == [8, 10]
    alone, lengths = packs_of(np.array([3, 7]), seeing[:2], 0, 2, seed=0)
    assert (alone, lengths) == ([[0], [1]], [3, 7])


def test_a_batch_of_tokens_must_hold_a_text_and_a_blank_picture():
    with pytest.raises(ValueError, match=r"of 9 tokens, .* blank picture of 2 .* to 11"):
        packs_of(np.array([9, 10]), np.array([False, True]), 10, 2, seed=0)


def test_entries_of_a_mixture(tmp_path):
    for name in "xy":
        (tmp_path / name).mkdir()
        write_rows(tmp_path / name, [row(name, f"{name}.png", "q", "a")])
    own = json.dumps({"files": str(tmp_path / "y/*.json"), "weight": 0.5,
                      "image_root": str(tmp_path / "y")})  # fmt: skip
    sets, weights = open_conversations([str(tmp_path / "x/rows.json"), own], str(tmp_path / "x"))
    assert [one[0].pictures[0].name for one in sets] == ["x.png", "y.png"]
    assert weights == [1.0, 0.5]
    with pytest.raises(FileNotFoundError, match="no file"):
        open_conversations([str(tmp_path / "nowhere*.json")], "")
