import itertools
from collections import Counter

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from vision_tower.mixture import Mixture


def mixture(sizes, weights, batch_size, seed=0):
    return Mixture([range(size) for size in sizes], weights, batch_size, (seed,), "caption")


def steps_of(order, epoch):
    order.set_epoch(epoch)
    rows, size = list(order), order.batch_size
    assert len(rows) == len(order)
    return [rows[start : start + size] for start in range(0, len(rows), size)]


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.lists(st.integers(8, 40), min_size=1, max_size=3),
    batch_size=st.integers(3, 8),
    epoch=st.integers(0, 3),
)
def test_steps_are_full_and_without_repeats(sizes, batch_size, epoch):
    try:
        order = mixture(sizes, [1.0] * len(sizes), batch_size)
    except ValueError:  # a set too small for its share
        reject()
    steps = steps_of(order, epoch)
    assert len(steps) == sum(sizes) // batch_size
    for rows in steps:
        assert len(rows) == len(set(rows)) == batch_size
        assert set(rows) <= set(range(sum(sizes)))
    again = mixture(sizes, [1.0] * len(sizes), batch_size)
    assert steps == steps_of(again, epoch)


def test_one_set_is_seen_once_an_epoch_and_ever_anew():
    order = mixture([32], [1.0], 8)
    epochs = [list(itertools.chain(*steps_of(order, epoch))) for epoch in range(2)]
    other = list(itertools.chain(*steps_of(mixture([32], [1.0], 8, seed=1), 0)))
    for rows in (*epochs, other):
        assert sorted(rows) == list(range(32))
    assert len({tuple(rows) for rows in (*epochs, other)}) == 3


def test_weights_say_how_often_a_set_is_seen():
    """40 rows once, 20 three times, 20 every other epoch: 40 + 60 + 10 of 110, 4 + 6 + 1 of 11."""
    order = mixture([40, 20, 20], [1.0, 3.0, 0.5], 11)
    assert order.shares == [4, 6, 1]
    assert str(order) == (
        "80 rows, 11 a step (4 of 40, 1 times an epoch, 6 of 20, 3 times an epoch, "
        "1 of 20, 0.5 times an epoch)"
    )
    seen = Counter(itertools.chain(*steps_of(order, 0), *steps_of(order, 1)))
    assert order.steps == 10
    assert {seen[row] for row in range(40)} == {2}
    assert sum(seen[row] for row in range(40, 60)) == 120
    assert {seen[row] for row in range(60, 80)} == {1}
    for rows in steps_of(order, 1):
        assert sum(row < 40 for row in rows) == 4


def test_the_sets_of_a_step_are_mixed():
    """Each device takes a run of it: one with all of a set would have other negatives."""
    firsts = [
        sum(row < 100 for row in rows[:10]) for rows in steps_of(mixture([100, 100], [1, 1], 20), 0)
    ]
    assert min(firsts) > 0
    assert max(firsts) < 10
    assert len(set(firsts)) > 1


@pytest.mark.parametrize(
    ("sizes", "weights", "told"),
    [
        ([3], [1], "4 caption rows over all processes and there are only 3"),
        ([100], [0.03], "weights 0.03 an epoch has not one step of 4 caption rows"),
        ([100, 2], [1, 1], "entry 1, of weight 1, would give 0 of a step's 4 rows, and has 2"),
        ([100, 2], [1, 150], "entry 1, of weight 150, would give 3 of a step's 4 rows, and has 2"),
    ],
)
def test_what_does_not_fit_is_told(sizes, weights, told):
    with pytest.raises(ValueError, match=told):
        mixture(sizes, weights, 4)
