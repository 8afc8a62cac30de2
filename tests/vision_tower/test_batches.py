import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tiny_tower import write_captions, write_edits, write_tower
from vision_tower.batches import (
    CaptionsAndEdits,
    CaptionTexts,
    PairCollator,
    PairedSampler,
    TextCollator,
)
from vision_tower.captions import read_captions
from vision_tower.edits import Edits
from vision_tower.towers import load_tower


def steps_of(sampler, epoch):
    """[(caption rows, edit rows)] of the whole steps of an epoch."""
    sampler.set_epoch(epoch)
    keys = list(sampler)
    whole = len(keys) // sampler.batch_size
    batches = [keys[i * sampler.batch_size :][: sampler.batch_size] for i in range(whole)]
    return [
        ([row for row, _ in batch], list(itertools.chain(*(rows for _, rows in batch))))
        for batch in batches
    ]


@settings(deadline=None, max_examples=40)
@given(
    captions=st.integers(6, 40),
    edits=st.integers(6, 40),
    batch_size=st.integers(1, 6),
    edit_batch_size=st.integers(0, 6),
    epoch=st.integers(0, 3),
)
def test_every_step_is_full_and_without_repeats(
    captions, edits, batch_size, edit_batch_size, epoch
):
    sampler = PairedSampler(captions, edits, batch_size, edit_batch_size, seed=3)
    steps = steps_of(sampler, epoch)
    rows = [row for row, _ in sampler]
    assert len(rows) == len(set(rows)) == len(sampler) == captions // batch_size * batch_size
    assert set(rows) <= set(range(captions))
    for _, edit_rows in steps:
        assert len(edit_rows) == len(set(edit_rows)) == edit_batch_size
    assert steps == steps_of(PairedSampler(captions, edits, batch_size, edit_batch_size, 3), epoch)


def test_edits_go_on_over_epochs_and_all_come_before_one_comes_again():
    sampler = PairedSampler(captions=8, edits=20, batch_size=4, edit_batch_size=5, seed=0)
    seen = [rows for epoch in range(4) for _, rows in steps_of(sampler, epoch)]
    assert (
        sorted(itertools.chain(*seen[:4])) == sorted(itertools.chain(*seen[4:])) == list(range(20))
    )
    assert seen[:4] != seen[4:]


def test_captions_are_shuffled_anew_each_epoch_and_by_the_seed():
    orders = []
    for seed, epoch in ((0, 0), (0, 1), (1, 0)):
        sampler = PairedSampler(30, 0, 5, 0, seed)
        sampler.set_epoch(epoch)
        orders.append([row for row, _ in sampler])
    assert len({tuple(order) for order in orders}) == 3


def test_ranks_share_a_step_as_one_process_has_it():
    """Batches are dealt out in turn: two ranks of half the size see the same step together."""
    keys = list(PairedSampler(16, 12, batch_size=8, edit_batch_size=6, seed=0))
    for step in (keys[:8], keys[8:]):
        halves = [
            list(itertools.chain(*(rows for _, rows in half))) for half in (step[:4], step[4:])
        ]
        assert [len(half) for half in halves] == [3, 3]


@pytest.mark.parametrize(("captions", "edits", "what"), [(3, 9, "caption"), (9, 3, "edit")])
def test_sets_smaller_than_a_step_are_told(captions, edits, what):
    with pytest.raises(ValueError, match=f"4 {what} rows.*only 3"):
        PairedSampler(captions, edits, 4, 4, 0)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    data = tmp_path_factory.mktemp("data")
    tower = load_tower(str(write_tower(data / "base"))).with_rotary_text(248, 10000.0)
    captions = read_captions([write_captions(data, 6)], data)
    return tower, captions, Edits([write_edits(data / "edits.parquet", 5)])


def test_a_batch_is_captions_then_sources_then_edited(parts):
    tower, captions, edits = parts
    rows = CaptionsAndEdits(captions, edits, tower.preprocess)
    batch = PairCollator(tower.tokenizer)([rows[4, (2,)], rows[0, ()], rows[1, (3, 0)]])
    chosen = [edits[row] for row in (2, 3, 0)]
    texts = [captions[row].short for row in (4, 0, 1)]
    texts += [edit.source_caption for edit in chosen] + [edit.edited_caption for edit in chosen]
    assert torch.equal(batch["short_tokens"], tower.tokenizer(texts))
    longs = tower.tokenizer([captions[row].long for row in (4, 0, 1)])
    assert torch.equal(batch["long_tokens"], longs)
    assert longs.shape[1] > 77
    assert batch["pixel_values"].shape == (9, 3, 16, 16)
    assert torch.equal(batch["pixel_values"][5], tower.preprocess(chosen[2].source_image))
    assert torch.equal(batch["pixel_values"][6], tower.preprocess(chosen[0].edited_image))
    assert batch["row_ids"][:2] == [captions[4].row, chosen[0].row]


def test_texts_are_short_and_long_and_cut_at_the_window(parts):
    tower, captions, _ = parts
    texts = CaptionTexts(captions)
    assert len(texts) == 12
    assert {texts[i][1] for i in range(12)} == {t for c in captions for t in (c.short, c.long)}
    tower.tokenizer.context_length = 20
    try:
        collate = TextCollator(tower.tokenizer, tower.tokenizer)
        batch = collate([texts[0], texts[1]])
    finally:
        tower.tokenizer.context_length = 248
    assert batch["tokens"].shape == (2, 20)
    assert torch.equal(batch["student_tokens"], batch["tokens"]), "a causal encoder needs no more"
    assert batch["tokens"][1, -1] == 49407, "the end token stays"
    assert batch["row_ids"] == [captions[0].row] * 2
