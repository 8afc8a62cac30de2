import hashlib
import json
import logging
from dataclasses import dataclass, field

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from training.arguments import StageArguments
from training.checkpoints import last_checkpoint
from training.progress import parameter_table
from training.row_order import row_order
from training.stage import (
    StageTrainer,
    is_finished,
    one_message,
    run_stage,
)


@dataclass
class Example(StageArguments):
    learning_rate: float = field(default=0.01, metadata={"help": "A rate."})


class Model(nn.Module):
    """Two named losses: the mean of x times a weight, and a constant."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(2, 1)
        self.logit_scale = nn.Parameter(torch.ones(1))
        self.frozen = nn.Linear(2, 2).requires_grad_(False)

    def forward(self, x):
        first = (self.layer(x) * self.logit_scale).square().mean()
        return {"loss": first + 3, "first": first, "constant": torch.tensor(3.0), "x": x}


def collate(rows):
    return {"x": torch.stack(rows), "row_ids": [f"row {row[0].item():.0f}" for row in rows]}


@pytest.fixture
def trainer_in(tmp_path):
    def make(steps=6, name="out", rows=None, **changes):
        settings = {"max_steps": steps, "logging_steps": 2, "save_steps": 3, "use_cpu": True}
        fixed = {"report_to": "none", "disable_tqdm": True, "per_device_train_batch_size": 2}
        args = Example(output_dir=str(tmp_path / name), **{**settings, **fixed, **changes})
        rows = rows or [torch.tensor([float(i), 1.0]) for i in range(20)]
        order = row_order(rows, args.seed)
        return StageTrainer(
            model=Model(),
            args=args,
            train_dataset=rows,
            train_sampler=order,
            data_collator=collate,
        )

    return make


def save(state, directory):
    (directory / "vision").mkdir()
    (directory / "vision" / "config.json").write_text("{}")
    save_file(state, directory / "weights.safetensors")


def test_named_losses_are_logged_as_means(trainer_in):
    trainer = trainer_in()
    seen = []
    forward = trainer.model.forward
    trainer.model.forward = lambda x: seen.append(forward(x)) or seen[-1]
    run_stage(trainer, save)
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert [entry["step"] for entry in logs] == [2, 4, 6]
    for number, entry in enumerate(logs):
        pair = [told["first"].item() for told in seen[2 * number : 2 * number + 2]]
        assert entry["first"] == pytest.approx(sum(pair) / 2)
        assert entry["constant"] == 3
        assert entry["loss"] == pytest.approx(entry["first"] + 3, rel=1e-5)
        assert "x" not in entry


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_and_names_the_rows(trainer_in, value):
    rows = [torch.tensor([float(i), value if i == 7 else 1.0]) for i in range(20)]
    with pytest.raises(FloatingPointError, match=r"at step \d+ on rank 0, rows .*'row 7'.*lower"):
        run_stage(trainer_in(steps=10, rows=rows), save)


def test_a_finished_stage_says_so(trainer_in, tmp_path, caplog):
    trainer = trainer_in()
    assert not is_finished(trainer.args)
    run_stage(trainer, save)
    assert not (tmp_path / "out" / ".unfinished").exists()
    assert not (tmp_path / "out" / "started.json").exists()
    state = load_file(tmp_path / "out" / "weights.safetensors")
    assert torch.equal(state["layer.weight"], trainer.model.layer.weight)
    record = json.loads((tmp_path / "out" / "recipe.json").read_text())
    assert (record["recipe"]["max_steps"], record["processes"]) == (6, 1)
    assert record["stage"] == "Example"
    assert record["versions"]["torch"] == torch.__version__
    assert record["commit"] is None or len(record["commit"].removesuffix("-dirty")) == 40
    with caplog.at_level(logging.INFO):
        assert is_finished(trainer_in(logging_steps=1).args), "watching it otherwise is the same"
    assert "nothing to do" in caplog.text


def test_a_result_holds_the_sums_of_its_files(trainer_in, tmp_path):
    """Not of recipe.json: a model is the same whenever it was made."""
    run_stage(trainer_in(), save)
    told = json.loads((tmp_path / "out/sha256.json").read_text())
    files = ("vision/config.json", "weights.safetensors")
    expected = {n: hashlib.sha256((tmp_path / "out" / n).read_bytes()).hexdigest() for n in files}
    assert told == expected


def test_a_finished_stage_of_another_recipe_is_not_taken_for_this_one(trainer_in):
    run_stage(trainer_in(), save)
    with pytest.raises(ValueError, match=r"max_steps: 6 then, 8 now.*--output_dir"):
        is_finished(trainer_in(steps=8).args)


def test_a_result_replaces_an_old_one(trainer_in, tmp_path):
    (tmp_path / "out" / "vision").mkdir(parents=True)
    (tmp_path / "out" / "vision" / "old.json").write_text("")
    run_stage(trainer_in(), save)
    assert [path.name for path in (tmp_path / "out" / "vision").iterdir()] == ["config.json"]


def test_a_killed_run_goes_on_to_the_same_weights(trainer_in, tmp_path):
    run_stage(trainer_in(name="whole"), save)
    killed = trainer_in()
    compute_loss = killed.compute_loss

    def kill(*args, **kwargs):
        if killed.state.global_step == 5:
            raise KeyboardInterrupt
        return compute_loss(*args, **kwargs)

    killed.compute_loss = kill
    with pytest.raises(KeyboardInterrupt):
        run_stage(killed, save)
    assert not is_finished(killed.args)
    with pytest.raises(ValueError, match=r"checkpoints of a stage.*max_steps: 6 then, 8 now"):
        is_finished(trainer_in(steps=8).args)
    # As if killed while the next checkpoint was being written.
    (tmp_path / "out" / "checkpoint-4").mkdir()
    assert last_checkpoint(tmp_path / "out").name == "checkpoint-3"
    run_stage(trainer_in(), save)
    whole, resumed = (load_file(tmp_path / n / "weights.safetensors") for n in ("whole", "out"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_temperature_and_biases_do_not_decay(trainer_in):
    trainer = trainer_in()
    assert trainer.get_decay_parameter_names(trainer.model) == ["layer.weight", "frozen.weight"]


def test_the_parameter_table_counts():
    lines = parameter_table(Model()).splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["logit_scale", "1", "1", "1"],
        ["layer.weight", "1", "2", "2"],
        ["layer.bias", "1", "1", "1"],
        ["frozen.weight", "1", "4", "0"],
        ["frozen.bias", "1", "2", "0"],
        ["all", "5", "10", "4"],
    ]


def test_a_stage_needs_a_place_for_its_result():
    with pytest.raises(ValueError, match=r"nothing is given for output_dir.*--output_dir"):
        Example(use_cpu=True)


@pytest.mark.parametrize("error", [FileNotFoundError("no x.json"), ValueError("row 3 is empty")])
def test_what_the_user_can_mend_ends_with_its_message(error, caplog):
    caplog.set_level(logging.DEBUG, "training")
    with pytest.raises(SystemExit) as end, one_message():
        raise error
    assert end.value.code == f"error: {error}"  # text: printed to stderr, status 1
    assert caplog.records[0].exc_info


class Broken(torch.utils.data.Dataset):
    def __getitem__(self, row):
        raise ValueError(f"x.json row {row}: broken. Remove the row.")

    def __len__(self):
        return 1


def test_of_what_a_dataloader_worker_raises_only_the_message_is_told():
    with pytest.raises(SystemExit) as end, one_message():
        next(iter(torch.utils.data.DataLoader(Broken(), num_workers=1)))
    assert end.value.code == "error: x.json row 0: broken. Remove the row."


def killed_before_the_result(trainer_in, directory):
    run_stage(trainer_in(), lambda state, out: None)
    (directory / "recipe.json").rename(directory / "started.json")


def test_checkpoints_of_nobody_knows_what_are_refused(trainer_in, tmp_path):
    killed_before_the_result(trainer_in, tmp_path / "out")
    (tmp_path / "out/started.json").unlink()
    with pytest.raises(ValueError, match=r"no started\.json"):
        is_finished(trainer_in().args)


def test_another_number_of_processes_does_not_go_on(trainer_in, tmp_path):
    killed_before_the_result(trainer_in, tmp_path / "out")
    assert not is_finished(trainer_in().args)
    started = tmp_path / "out/started.json"
    started.write_text(started.read_text().replace('"processes": 1', '"processes": 8'))
    with pytest.raises(ValueError, match="begun with 8 processes and cannot go on with 1"):
        is_finished(trainer_in().args)


def test_what_the_user_cannot_mend_keeps_its_traceback():
    with pytest.raises(KeyError), one_message():
        raise KeyError("a mistake of ours")
