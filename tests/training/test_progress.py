import pytest
import torch
from accelerate import Accelerator
from tqdm import tqdm

from training.progress import Bar, Meter, peak_memory


def batch(*labels):
    labels = torch.tensor([labels])
    return {"labels": labels, "shift_labels": labels[:, 1:]}


def test_tokens_are_told_by_the_second_and_forgotten(monkeypatch):
    clock = iter([10.0, 12.0, 12.0, 13.0, 13.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    meter = Meter(Accelerator(cpu=True))
    meter.count(batch(-100, -100, 5, 6))
    meter.count(batch(-100, 7))
    told = meter.read()
    assert told["tokens_per_second"] == pytest.approx(6 / 2)
    assert told["learned_share"] == pytest.approx(3 / 6)
    assert meter.read()["tokens_per_second"] == 0


def test_the_peak_is_at_least_what_was_held():
    before = peak_memory(torch.device("cpu"))
    held = torch.ones(16 * 2**20)  # 64 MiB
    assert peak_memory(torch.device("cpu")) >= before
    assert peak_memory(torch.device("cpu")) > held.nbytes


def test_the_bar_shows_the_last_figures():
    bar = Bar()
    bar.training_bar = tqdm(total=3, disable=None)
    bar.on_log(None, None, None, {"loss": "0.51234", "epoch": 1, "tokens_per_second": 1234.56})
    assert bar.training_bar.postfix == "loss=0.5123, tokens_per_second=1235"
    bar.on_log(None, None, None, {"train_runtime": 3})
    assert bar.training_bar.postfix == "loss=0.5123, tokens_per_second=1235"
