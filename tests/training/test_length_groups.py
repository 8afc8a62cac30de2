import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.length_groups import WINDOW, LengthGroups


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
