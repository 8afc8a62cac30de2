"""What the data of stage 2 holds in memory does not grow with the rows."""

import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pytest
from torch.utils.data import DataLoader

from tests.tiny_tower import edit_row, sentence, write_captions, write_tower
from training.train_vision_tower import TrainVisionTower, read_rows
from vision_tower.batches import PairCollator
from vision_tower.towers import load_tower

STEPS = 100


def write_rows(directory, rows):
    """`rows` captions of one picture, each another, and as many edit pairs."""
    write_captions(directory, 1)
    rng = np.random.default_rng(0)
    turns = [[{"from": "gpt", "value": f"{i} {sentence(rng, 40)}."}] for i in range(rows)]
    (directory / "captions.json").write_text(
        json.dumps([{"image": "images/0.png", "conversations": told} for told in turns])
    )
    edits = [edit_row(rng) for _ in range(100)] * (rows // 100)
    datasets.Dataset.from_list(edits).to_parquet(directory / "edits.parquet")


def anonymous_mib():
    """Of this process: what is mapped from files, and can be dropped, is not counted."""
    status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    [kib] = [line.split()[1] for line in status if line.startswith("RssAnon:")]
    return int(kib) / 1024


def held_by_data(base, directory):
    """MiB that opening the data and reading some steps of it adds to a process."""
    datasets.config.HF_DATASETS_CACHE = directory / "cache"
    tower = load_tower(str(base))
    args = TrainVisionTower(
        tower=str(base),
        captions=[str(directory / "captions.json")],
        edits=[str(directory / "edits.parquet")],
        output_dir=str(directory / "out"),
        per_device_train_batch_size=8,
        edit_batch_size=4,
        use_cpu=True,
    )
    before = anonymous_mib()
    rows, sampler = read_rows(args, tower)
    collate = PairCollator(tower.tokenizer)
    for _ in islice(DataLoader(rows, batch_size=8, sampler=sampler, collate_fn=collate), STEPS):
        pass
    pa.default_memory_pool().release_unused()  # it keeps what looking through a column took
    return anonymous_mib() - before


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="reads Linux' own account")
def test_memory_stays_flat_as_the_data_grows(tmp_path):
    base, held = write_tower(tmp_path / "base"), {}
    for rows in (1_000, 100_000):
        write_rows(tmp_path / str(rows), rows)
        for _ in ("writes the cache", "is a later process of a run, or a later run"):
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                held[rows] = process.submit(held_by_data, base, tmp_path / str(rows)).result()
    # The order of each set is 8 bytes a row, or 0.8 MiB.
    assert held[100_000] - held[1_000] < 10, held
    print(held)
