import pytest
import torch
from accelerate import Accelerator
from tqdm import tqdm

from training.progress import Bar, Meter, peak_memory


def batch(*labels, lengths):
    labels = torch.tensor([labels])
    return {"labels": labels, "shift_labels": labels[:, 1:], "row_lengths": lengths}


def test_tokens_are_told_by_the_second_and_forgotten(monkeypatch):
    clock = iter([10.0, 12.0, 12.0, 13.0, 13.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    meter = Meter(Accelerator(cpu=True), room=0)
    meter.count(batch(-100, -100, 5, 6, lengths=[4]))
    meter.count(batch(-100, 7, lengths=[2]))
    told = meter.read()
    assert told["tokens_per_second"] == pytest.approx(6 / 2)
    assert told["learned_share"] == pytest.approx(3 / 6)
    assert meter.read()["tokens_per_second"] == 0


# Places beside the rows' tokens: none; the 3 of a blank picture, which has nothing to learn; what
# is left of 8 places, 3 and 8 - 2; none, of a pack in which a longer row replaced a broken one.
@pytest.mark.parametrize(("room", "share"), [(0, 3 / 10), (8, (3 + 6) / 16), (4, 3 / 10)])
def test_padding_is_what_holds_no_token_of_a_row(room, share):
    meter = Meter(Accelerator(cpu=True), room)
    meter.count(batch(-100, 4, -100, 5, 6, lengths=[2, 3]))
    meter.count(batch(-100, 7, -100, -100, -100, lengths=[2, 3]))
    assert meter.read()["padding_share"] == pytest.approx(share)
    assert meter.read()["padding_share"] == 0


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
