import random

import pytest
from accelerate.data_loader import prepare_data_loader, skip_first_batches
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from transformers import TrainerState

from training.row_order import WINDOW, LengthGroups, TellEpoch, row_order


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 50), max_size=200),
    batch_size=st.integers(1, 9),
    seed=st.integers(0, 5),
)
def test_every_row_comes_once(lengths, batch_size, seed):
    assert sorted(LengthGroups(lengths, batch_size, seed)) == list(range(len(lengths)))


def padding(order, lengths, size):
    batches = [order[at : at + size] for at in range(0, len(order), size)]
    paid = sum(max(lengths[row] for row in batch) * len(batch) for batch in batches)
    return 1 - sum(lengths) / paid


def test_batches_hold_rows_of_like_length():
    lengths = [random.Random(seed).randint(10, 500) for seed in range(WINDOW * 8 * 4)]
    assert padding(list(range(len(lengths))), lengths, 8) > 0.4
    assert padding(list(LengthGroups(lengths, 8, 0)), lengths, 8) < 0.06


def test_the_longest_row_comes_in_the_first_batch():
    lengths = [random.Random(seed).randint(10, 500) for seed in range(512)]
    first = list(LengthGroups(lengths, 8, 3))[:8]
    assert max(lengths) in [lengths[row] for row in first]


@pytest.mark.parametrize("epoch", [0, 1])
def test_the_order_is_a_function_of_seed_and_epoch(epoch):
    def order(seed, epoch):
        groups = LengthGroups(list(range(100)), 4, seed)
        groups.set_epoch(epoch)
        return list(groups)

    assert order(1, epoch) == order(1, epoch)
    assert order(1, epoch) != order(2, epoch)
    assert order(1, epoch) != order(1, epoch + 1)
    assert order(1, epoch + 1) != order(2, epoch), "an epoch of one seed is one of the next"


def test_a_shuffled_order_is_one_of_the_epoch():
    order = row_order(range(50), seed=3)
    first = list(order)
    order.set_epoch(1)
    second = list(order)
    assert first != second
    assert sorted(first) == sorted(second) == list(range(50))
    assert list(row_order(range(50), seed=4)) not in (first, second)
    assert list(row_order(range(50), seed=3, shuffle=False)) == list(range(50))


@pytest.mark.parametrize("rank", [0, 1])
def test_a_run_of_two_processes_resumed_in_its_second_epoch_keeps_the_order(rank):
    """As Trainer prepares it; its own calls of set_epoch do not reach the sampler then."""
    order = row_order(range(24), seed=0)
    loader = DataLoader(range(24), batch_size=3, sampler=order)
    ours = prepare_data_loader(loader, num_processes=2, process_index=rank, put_on_device=False)
    ours.set_epoch(1)
    whole = [batch.tolist() for batch in ours]
    order.set_epoch(0)
    resumed = skip_first_batches(ours, 1)
    TellEpoch(order).on_epoch_begin(None, TrainerState(epoch=1.25), None)
    resumed.set_epoch(1)
    assert [batch.tolist() for batch in resumed] == whole[1:]
