import json
import shutil
import sys

import pytest
import torch

from mllm.assemble import assemble
from scripts import plan
from scripts.meta_llava import Census, census, config_of, flops_a_token, meta_learner
from scripts.plan import GIB, planned, read
from scripts.zero_memory import Curve, Zero, largest, read_zero, share_of
from tests.tiny_llava import example_rows, write_language_model, write_rows, write_tower
from training.llava_model import opened_as

# The tiny LLaVA's, by hand: width 32, 2 layers of 64, the tower's width 24.
PROJECTOR = (24 * 32 + 32) + (32 * 32 + 32)
MAPS = 2 * (4 * 32 * 32 + 3 * 32 * 64)
OF_RANK = 2 * (4 * (32 + 32) + 3 * (32 + 64))  # weights of adapters, for each rank


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """`mllm` is whole; `bare`, `bare_tower` and `bare_llm` are configurations alone."""
    root = tmp_path_factory.mktemp("parts")
    tower, llm = write_tower(root / "tower"), write_language_model(root / "llm")
    assemble(str(tower), str(llm), root / "mllm", system="")
    write_rows(root, example_rows())
    for name, source in (("bare", "mllm"), ("bare_tower", "tower/vision"), ("bare_llm", "llm")):
        (root / name).mkdir()
        shutil.copy(root / source / "config.json", root / name)
    return root


def recipe_file(parts, folder, stage="finetune", **changes):
    told = {"model": str(parts / "bare")}
    if stage == "pretrain_projector":
        told = {
            "vision_tower": str(parts / "bare_tower"),
            "language_model": str(parts / "bare_llm"),
        }
    told |= {"conversations": ["gone.json"], "output_dir": str(folder / "out"), "max_length": 64}
    told |= {"per_device_train_batch_size": 4, **changes}
    (folder / "recipe.yaml").write_text(json.dumps(told))
    return folder / "recipe.yaml"


def run(file, monkeypatch, capsys, *flags):
    given = ["--gpus", "4", "--memory", "1", *flags]
    monkeypatch.setattr(sys, "argv", ["plan.py", str(file), *given])
    plan.main()
    return capsys.readouterr().out


def shares(zero, found=None, **changes):
    """Of 1,000 weights, of which 800 learn, on 4 GPUs."""
    settings = {"bf16": True, "bf16_base": False, "eight_bits": False, **changes}
    return tuple(share_of(zero, found or Census(1000, 800, 0, 0, 0), 4, **settings))


@pytest.mark.parametrize(
    ("zero", "host", "weights", "gradients", "optimizer", "buffers"),
    [
        (Zero(), 0, 4000, 3200, 6400, 3200),
        (Zero(1, bucket=100), 0, 2000, 1600, 2400, 400),
        (Zero(2, bucket=100), 0, 2000, 400, 2400, 400),
        (Zero(2, True, bucket=100), 3200, 2000, 0, 0, 400),
        (Zero(3, bucket=100, live=300), 0, 500, 400, 2400, 1000),
        (Zero(3, True, True, bucket=100, live=300), 3700, 0, 0, 0, 1000),
    ],
    ids=lambda one: one.name if isinstance(one, Zero) else None,
)
def test_what_zero_shards_and_moves(zero, host, weights, gradients, optimizer, buffers):
    assert shares(zero) == (host, weights, gradients, optimizer, buffers)


def test_other_types():
    """fp32 under DeepSpeed; moments in 8 bits, but of 300 values; a base in bf16 and in 4 bits."""
    assert shares(Zero(1), bf16=False)[1:4] == (4000, 3200, 12 * 800 / 4)
    found = Census(1000, 800, 300, 0, 0)
    assert shares(Zero(), found, eight_bits=True)[3] == 500 * (2 + 8 / 256) + 300 * 8
    assert shares(Zero(), bf16_base=True)[1] == 800 * 4 + 200 * 2
    quantized = Census(1000, 300, 0, 640, 64)
    four_bits = 640 / 2 + 640 / 64 + 640 / 64 / 256 * 4  # bytes; of 64 values one, of 256 four
    expected = 300 * 4 + 60 * 2 + four_bits
    assert shares(Zero(), quantized, bf16_base=True)[1] == pytest.approx(expected, rel=1e-3)


def test_what_learns(parts, tmp_path):
    def counted(stage="finetune", **changes):
        args = read(recipe_file(parts, tmp_path, stage, **changes), []).args
        dtype = opened_as(args, bf16=True, deepspeed=False)
        return census(args, meta_learner(args, config_of(args), dtype))

    full, tuned = counted(), counted(tune_vision_tower=True)
    assert counted("pretrain_projector").learning == PROJECTOR
    assert full.learning > MAPS + PROJECTOR
    assert full.learning < tuned.learning < tuned.total == full.total
    lora = counted(lora={"rank": 4, "alpha": 8})
    assert lora.learning == PROJECTOR + 4 * OF_RANK
    # peft keeps the projector as it was beside the one that learns.
    assert lora.total == full.total + lora.learning
    assert (lora.quantized, lora.widest) == (0, 0)
    quantized = counted(lora={"rank": 4, "alpha": 8, "quantized": True})
    assert (quantized.quantized, quantized.widest) == (MAPS, 32 * 64)


def test_what_stage_3_freezes_takes_two_bytes(parts, tmp_path):
    """Without DeepSpeed as with it; what learns has four without."""
    recipe = read(recipe_file(parts, tmp_path, "pretrain_projector", bf16=True), [])
    found = census(recipe.args, meta_learner(recipe.args, recipe.config, torch.float32))
    alone, sharded, *_ = planned(recipe, 1, GIB)
    assert alone.share.weights == 2 * (found.total - PROJECTOR) + 4 * PROJECTOR
    assert sharded.share.weights == 2 * found.total


def test_the_largest_that_fits():
    curve = Curve([10, 20, 40], [100, 150, 350])
    assert [curve.at(tokens) for tokens in (10, 15, 30, 60)] == [100, 125, 250, 550]
    for room in (100, 101, 260, 999, 12_345):
        most = largest(curve.at, room, 10)
        assert curve.at(most) <= room < curve.at(most + 1)
    assert largest(curve.at, 99, 10) == 0


@pytest.mark.parametrize("changes", [{}, {"activation_checkpointing": True}])
def test_a_step_of_the_largest_fits_and_one_of_more_does_not(changes, parts, tmp_path):
    """Both simulated at that size, for a recipe of less: without DeepSpeed and under ZeRO-3."""
    file = recipe_file(parts, tmp_path, bf16=True, **changes)
    room = 3 * planned(read(file, []), 1, GIB)[0].total
    rows = planned(read(file, []), 1, room)
    for number in (0, 4):
        assert rows[number].most > 256
        sizes = [str(round(share * rows[number].most)) for share in (0.98, 1.02)]
        less, more = (
            planned(read(file, ["--batch_tokens", size]), 1, room)[number] for size in sizes
        )
        assert less.total <= room < more.total


def test_no_weights_are_read_and_the_recipes_own_stage_is_marked(
    parts, tmp_path, monkeypatch, capsys
):
    """bf16 and DeepSpeed are told of on a machine that has neither."""
    for stage, zero in (("finetune", "3"), ("pretrain_projector", "2")):
        deepspeed = f"training/deepspeed/zero{zero}.json"
        file = recipe_file(parts, tmp_path, stage, bf16=True, deepspeed=deepspeed)
        head, *rows, assumed = run(file, monkeypatch, capsys).splitlines()
        assert head.split()[:2] == ["ZeRO", "weights"]
        names = [row[2:15].strip() for row in rows]
        assert names == ["0", "1", "2", "2 + offload", "3", "3 + offload"]
        assert [row[2:15].strip() for row in rows if row.startswith("*")] == [zero]
        assert all(" yes " in row for row in rows)
        assert "4 rows of 64 tokens" in assumed
    flags = ("--deepspeed", "", "--batch_tokens", "128")
    _, first, *_, assumed = run(file, monkeypatch, capsys, *flags).splitlines()
    assert first.startswith("* 0")
    assert "2 rows of 64 tokens" in assumed


def test_activations_follow_the_settings(parts, tmp_path):
    def told(*flags, row=1, **changes):
        file = recipe_file(parts, tmp_path, bf16=True, **changes)
        return planned(read(file, list(flags)), 1, GIB)[row]

    plain = told()
    assert told("--per_device_train_batch_size", "8").activations > 1.8 * plain.activations
    assert told(activation_checkpointing=True).activations < 0.9 * plain.activations
    fp32 = told("--bf16", "False")
    assert 1.5 * plain.activations < fp32.activations <= 2.1 * plain.activations
    # Without DeepSpeed gradients of earlier micro-batches are there while activations are.
    assert told("--gradient_accumulation_steps", "2", row=0).total > told(row=0).total


def test_a_model_that_is_not_assembled_yet_is_planned_of_its_parts(
    parts, tmp_path, monkeypatch, capsys
):
    made_of = [str(parts / "bare_tower"), str(parts / "bare_llm")]
    expected = read(recipe_file(parts, tmp_path, "pretrain_projector"), [])
    file = recipe_file(parts, tmp_path, model="out/not/yet")
    assert read(file, [], made_of).config.to_dict() == expected.config.to_dict()
    assert "4 rows of 64 tokens" in run(file, monkeypatch, capsys, "--made_of", *made_of)
    with pytest.raises(SystemExit, match=r"no directory out/not/yet: .* --made_of <tower> <lang"):
        run(file, monkeypatch, capsys)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vision_tower": "out/not/yet"}, r"no directory out/not/yet: .*train_vision_tower\.py"),
        ({"language_model": "/not/there"}, "no directory /not/there: .* language model"),
    ],
)
def test_parts_that_are_not_there_are_told(changes, message, parts, tmp_path, monkeypatch, capsys):
    file = recipe_file(parts, tmp_path, "pretrain_projector", **changes)
    with pytest.raises(SystemExit, match=message):
        run(file, monkeypatch, capsys)


def test_hours_are_told_where_the_data_is(parts, tmp_path, monkeypatch, capsys):
    file = recipe_file(parts, tmp_path)
    flags = ("--mfu", "0.5", "--flops", "1e9")
    out = run(file, monkeypatch, capsys, *flags)
    assert "tokens a second on each GPU" in out
    assert "No hours: the data cannot be counted" in out
    there = ("--model", str(parts / "mllm"), "--conversations", str(parts / "rows.json"))
    assert "on 4 GPUs: 0.0 hours" in run(file, monkeypatch, capsys, *flags, *there)


def test_flops_are_counted(parts, tmp_path):
    """6 of a weight that learns, 4 of a frozen one behind which something learns."""
    args = read(recipe_file(parts, tmp_path), []).args
    frozen = read(recipe_file(parts, tmp_path, "pretrain_projector"), []).args
    full, projector = (flops_a_token(one, config_of(one)) for one in (args, frozen))
    # Logits of 20 tokens of 64; assembling has made the vocabulary larger.
    after, before = (config_of(one).text_config.vocab_size for one in (args, frozen))
    head = 2 * 32 * (3 * after - 2 * before) * 20 / 64
    assert full - projector == pytest.approx(2 * MAPS + head, rel=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "/nowhere"}, "there is no directory /nowhere: run training/pretrain"),
        ({"deepspeed": "/nowhere.json"}, "there is no DeepSpeed configuration /nowhere.json"),
        ({"deepspeed": "README.md"}, "README.md is no DeepSpeed configuration"),
        ({"deepspeed": '{"zero_optimization": {}}'}, "stage None: this plan knows 1, 2"),
        ({"attention": "eager"}, "leave it at auto"),
        ({"max_length": 4}, "--max_length 4 does not hold one picture of 4 tokens"),
        ({"optim": "sgd"}, "does not know --optim sgd: it knows adamw_torch"),
        (
            {"lora": {"quantized": True}, "deepspeed": "training/deepspeed/zero3.json"},
            "ZeRO-3 cannot shard weights of 4 bits",
        ),
        ({"max_lenth": 3}, "no stage has all of its settings"),
    ],
)
def test_bad_recipes_end_with_one_message(changes, message, parts, tmp_path, monkeypatch, capsys):
    file = recipe_file(parts, tmp_path, **changes)
    with pytest.raises(SystemExit) as ended:
        run(file, monkeypatch, capsys)
    assert message in str(ended.value.code)
    assert "Traceback" not in capsys.readouterr().err


def test_bad_flags_end_with_one_message(parts, tmp_path, monkeypatch, capsys):
    file = recipe_file(parts, tmp_path)
    for flags, message in (
        (["--gpus", "0"], "must be above 0"),
        (["--mfu", "40"], "no share"),
    ):
        with pytest.raises(SystemExit):
            run(file, monkeypatch, capsys, *flags)
        assert message in capsys.readouterr().err
    for path, words in ((tmp_path / "gone.yaml", "No such file"),
                        ("training/recipes/train_vision_tower.yaml", "--dry_run")):  # fmt: skip
        with pytest.raises(SystemExit, match=words):
            run(path, monkeypatch, capsys)
    with pytest.raises(SystemExit, match="Did you mean 'batch_tokens'"):
        run(file, monkeypatch, capsys, "--batch_token", "100")


def test_the_kits_configurations_are_understood():
    told = read_zero("training/deepspeed/zero3_offload.json")
    assert told.kind == (3, True, True)
    assert (told.bucket, told.live) == (50_000_000, 1_000_000_000)
    assert read_zero('{"zero_optimization": {"stage": 2}}') == Zero(
        2, bucket=500_000_000, live=1_000_000_000
    )
