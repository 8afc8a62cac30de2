import pytest
from torch.utils.data import DataLoader

from training.quarantine import Quarantine, quarantined


class Squares:
    """100 rows; some are broken."""

    def __init__(self, *broken):
        self.broken = broken

    def __len__(self):
        return 100

    def __getitem__(self, index):
        if index in self.broken:
            raise ValueError(f"row {index} is broken.")
        return index * index


def test_the_next_sound_row_stands_in(tmp_path):
    rows = Quarantine(Squares(4, 98, 99), tmp_path / "q.jsonl", 0.03)
    assert [rows[3], rows[4], rows[98], rows[99], rows[4]] == [9, 25, 0, 0, 25]
    assert quarantined(tmp_path / "q.jsonl") == {
        row: f"row {row} is broken." for row in (4, 98, 99)
    }


def test_workers_and_a_resumed_run_agree(tmp_path):
    told = []
    for workers in (0, 2):
        rows = Quarantine(Squares(4, 50), tmp_path / "q.jsonl", 0.02)
        batches = DataLoader(rows, batch_size=5, num_workers=workers)
        told.append([batch.tolist() for batch in batches])
    assert told[0] == told[1]
    assert told[0][0] == [0, 1, 4, 9, 25]
    assert set(quarantined(tmp_path / "q.jsonl")) == {4, 50}


def test_the_budget_stops_the_run_with_the_row(tmp_path):
    rows = Quarantine(Squares(4, 9), tmp_path / "q.jsonl", 0.01)
    assert rows[4] == 25
    told = r"row 9 is broken.*one of 2 rows of 100.*q\.jsonl.*--quarantine_budget allows 1"
    with pytest.raises(ValueError, match=told):
        rows[9]
    with pytest.raises(ValueError, match=r"row 4 is broken.*allows 0"):
        Quarantine(Squares(4), tmp_path / "other.jsonl", 0.0)[4]


def test_a_budget_is_a_share(tmp_path):
    with pytest.raises(ValueError, match=r"a share of the rows, not 1"):
        Quarantine(Squares(), tmp_path, 1)
