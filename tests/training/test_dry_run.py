import re

import pytest
import torch
from torch import nn

from tests.tiny_tower import write_captions, write_edits, write_tower
from training import adapt_text_encoder, train_vision_tower
from training.arguments import TowerArguments
from training.dry_run import LiveBytes, activations, estimate
from vision_tower.towers import load_tower, save_tower


def arguments(tmp_path, **changes):
    return TowerArguments(
        tower="t",
        captions=["c"],
        output_dir=str(tmp_path / "o"),
        use_cpu=True,
        dry_run=4,
        **changes,
    )


def test_live_bytes_counts_what_is_held_and_no_views():
    with LiveBytes() as made:
        a = torch.ones(100)  # 400 bytes
        b = a.view(10, 10).T
        a.add_(1)
        c = b @ b  # 400 more
        del a, b
        d = torch.ones(50)  # 200; the first 400 are free again
        del c
    assert (made.now, made.peak) == (d.numel() * 4, 800)


def test_what_the_backward_pass_needs_is_held():
    """Of y = xW: x, y and, for a moment, the gradients of y and W."""
    with torch.device("meta"):
        model = nn.Linear(16, 32, bias=False)
    batch = {"x": torch.empty(10, 16, device="meta")}
    args = TowerArguments(tower="t", captions=["c"], output_dir="o", use_cpu=True)
    found = activations(args, model, batch, lambda told: model(told["x"]).square().mean())
    x, y, weight = 10 * 16 * 4, 10 * 32 * 4, 16 * 32 * 4
    assert x + y + weight < found <= x + 4 * y + 2 * weight


def test_it_grows_with_the_batch_and_shrinks_by_checkpointing(tmp_path):
    def held(rows, **changes):
        objective = train_vision_tower.ContrastiveObjective(
            load_tower(str(tmp_path / "tower"), weights=False), hard_negative=0, long=0
        )
        objective.tower.tokenizer.groups = 1
        batch = {"pixel_values": torch.empty(rows, 3, 16, 16)}
        batch |= {
            n: torch.ones(rows, 40, dtype=torch.long) for n in ("short_tokens", "long_tokens")
        }
        loss = lambda told: objective.losses(objective(**told))["loss"]  # noqa: E731
        return activations(arguments(tmp_path, **changes), objective, batch, loss)

    write_tower(tmp_path / "tower")
    write_tower(tmp_path / "tower")
    assert held(64) == pytest.approx(2 * held(32), rel=0.1)
    assert held(64, activation_checkpointing=True) < 0.8 * held(64)


def test_parts_are_sharded_by_the_zero_stage(tmp_path):
    """1,000 learning and 500 frozen parameters on 4 devices."""
    with torch.device("meta"):
        model = nn.ParameterDict(
            {"a": nn.Parameter(torch.empty(1000)), "b": nn.Parameter(torch.empty(500), False)}
        )
    batch = {"x": torch.empty(1000)}
    told = {}
    for stage in (0, 1, 2, 3):
        changes = {} if stage == 0 else {"deepspeed": f"training/deepspeed/zero{stage}.json"}
        args = arguments(tmp_path, bf16=True, **changes)
        needs = estimate(args, model, batch, lambda told: (model["a"] * told["x"]).sum())
        told[stage] = (needs.weights, needs.gradients, needs.optimizer)
    assert told == {
        0: (6000, 4000, 8000),
        1: (3000, 2000, 3000),
        2: (3000, 500, 3000),
        3: (750, 500, 3000),
    }


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Towers whose weights cannot be read."""
    data = tmp_path_factory.mktemp("data")
    tower = load_tower(str(write_tower(data / "base")))
    save_tower(tower.with_rotary_text(248, 10000.0), data / "rotary")
    for name in ("base", "rotary"):
        (data / name / "open_clip_model.safetensors").write_bytes(b"")
    write_captions(data, 24)
    write_edits(data / "edits.parquet", 24)
    return data


@pytest.mark.parametrize("stage", [adapt_text_encoder, train_vision_tower])
def test_a_stage_tells_and_trains_nothing(stage, data, tmp_path, caplog):
    flags = ["--captions", f"{data}/captions.json", "--output_dir", str(tmp_path / "o")]
    flags += ["--per_device_train_batch_size", "6", "--use_cpu", "--dry_run", "2"]
    if stage is train_vision_tower:
        flags += ["--edits", str(data / "edits.parquet"), "--edit_batch_size", "6"]
    tower = {adapt_text_encoder: "base", train_vision_tower: "rotary"}[stage]
    stage.main([*flags, "--tower", str(data / tower)])
    assert re.search(r"A micro-batch: .*tokens \[6, \d+\]", caplog.text)
    assert re.search(r"Each of 2 devices needs about [\d.]+ GiB \(weights", caplog.text)
    assert not (tmp_path / "o").exists()


def test_the_batch_is_that_of_all_devices(data, tmp_path):
    flags = ["--captions", f"{data}/captions.json", "--output_dir", str(tmp_path / "o")]
    flags += ["--per_device_train_batch_size", "6", "--use_cpu", "--dry_run", "5"]
    with pytest.raises(ValueError, match=r"one step takes 30 caption rows.*only 24"):
        train_vision_tower.main(
            [*flags, "--tower", str(data / "rotary"), "--loss_weights", "{hard_negative: 0}"]
        )
