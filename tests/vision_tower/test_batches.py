import itertools

import pytest
import torch

from tests.tiny_tower import write_captions, write_edits, write_tower
from vision_tower.batches import (
    CaptionsAndEdits,
    CaptionTexts,
    PairCollator,
    PairedSampler,
    TextCollator,
)
from vision_tower.captions import Captions
from vision_tower.edits import Edits
from vision_tower.mixture import Mixture
from vision_tower.towers import load_tower


def sampler(captions, edits, batch_size, edit_batch_size, seed=0):
    return PairedSampler(
        Mixture([range(captions)], [1.0], batch_size, (seed, 0), "caption"),
        Mixture([range(edits)], [1.0], edit_batch_size, (seed, 1), "edit"),
    )


def steps_of(order, epoch):
    """[(caption rows, edit rows)] of the steps of an epoch."""
    order.set_epoch(epoch)
    keys, size = list(order), order.captions.batch_size
    batches = [keys[start : start + size] for start in range(0, len(keys), size)]
    return [
        ([row for row, _ in batch], list(itertools.chain(*(rows for _, rows in batch))))
        for batch in batches
    ]


def test_edits_go_on_over_epochs_and_all_come_before_one_comes_again():
    order = sampler(captions=8, edits=20, batch_size=4, edit_batch_size=5)
    steps = [step for epoch in range(4) for step in steps_of(order, epoch)]
    edits, captions = [rows for _, rows in steps], [rows for rows, _ in steps]
    assert sorted(itertools.chain(*edits[:4])) == sorted(itertools.chain(*edits[4:]))
    assert sorted(itertools.chain(*edits[:4])) == list(range(20))
    assert edits[:4] != edits[4:]
    for epoch in range(4):
        assert sorted(captions[2 * epoch] + captions[2 * epoch + 1]) == list(range(8))


def test_ranks_share_a_step_as_one_process_has_it():
    """Batches are dealt out in turn: two ranks of half the size see the same step together."""
    keys = list(sampler(16, 12, batch_size=8, edit_batch_size=6))
    for step in (keys[:8], keys[8:]):
        halves = [
            list(itertools.chain(*(rows for _, rows in half))) for half in (step[:4], step[4:])
        ]
        assert [len(half) for half in halves] == [3, 3]


def test_there_may_be_no_edits():
    order = PairedSampler(
        Mixture([range(4)], [1.0], 2, (0,), "caption"), Mixture([], [], 0, (0,), "edit")
    )
    assert [rows for _, rows in order] == [()] * 4


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    data = tmp_path_factory.mktemp("data")
    tower = load_tower(str(write_tower(data / "base"))).with_rotary_text(248, 10000.0)
    captions = Captions([write_captions(data, 6)])
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
    assert {texts[i][1] for i in range(12)} == {
        t for c in map(captions.texts, range(6)) for t in (c.short, c.long)
    }
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
