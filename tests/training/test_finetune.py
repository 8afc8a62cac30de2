import json
import shutil
from dataclasses import fields

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoProcessor, LlavaForConditionalGeneration

from mllm.assemble import assemble
from mllm.chat import Chat
from mllm.collate import IGNORED, Collator
from mllm.conversation_files import Conversations
from tests.tiny_llava import (
    example_rows,
    likeliest,
    picture,
    write_language_model,
    write_rows,
    write_tower,
)
from training.finetune import Finetune, main
from training.llava import _split_groups


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("stage4")
    tower, llm = write_tower(root / "tower"), write_language_model(root / "llm")
    assemble(str(tower), str(llm), root / "start", system="")
    siglip = write_tower(root / "siglip", "siglip")
    assemble(str(siglip), str(llm), root / "start-siglip", system="")
    write_rows(root / "data", example_rows(24))
    return root


def train(folder, output_dir, *flags, start="start"):
    main([
        "--model", str(folder / start), "--conversations", str(folder / "data/rows.json"),
        "--image_root", str(folder / "data"), "--output_dir", str(output_dir),
        "--max_steps", "4", "--report_to", "none", "--per_device_train_batch_size", "4",
        "--logging_steps", "1", "--disable_tqdm", "True", "--warmup_steps", "0", *flags,
    ])  # fmt: skip
    return output_dir


def changed(folder, output_dir, start="start"):
    before = load_file(folder / start / "model.safetensors")
    after = load_file(output_dir / "model.safetensors")
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}, set(before)


def test_the_defaults_are_llava_1_5s():
    defaults = {field.name: field.default for field in fields(Finetune)}
    assert defaults["learning_rate"] == 2e-5
    assert defaults["warmup_steps"] == 0.03
    assert defaults["weight_decay"] == 0
    assert defaults["per_device_train_batch_size"] * 8 == 128
    assert defaults["tune_vision_tower"] is False


def test_projector_and_language_model_learn_and_the_tower_does_not(folder, tmp_path):
    moved, names = changed(folder, train(folder, tmp_path))
    assert moved == {name for name in names if not name.startswith("vision_tower.")}
    answer = Chat(tmp_path).answer(picture(0), "what", max_new_tokens=3)
    assert answer == likeliest(LlavaForConditionalGeneration.from_pretrained(tmp_path), tmp_path, 3)


@pytest.mark.parametrize("start", ["start", "start-siglip"])
def test_the_tower_learns_when_told_to_up_to_the_layer_that_is_read(folder, tmp_path, start):
    flags = ["--tune_vision_tower", "True", "--learning_rate", "1e-3"]
    moved, names = changed(folder, train(folder, tmp_path, *flags, start=start), start)
    # Three layers, features from hidden_states[-2]: layers 0 and 1. The rest gets no gradient.
    parts = ("encoder.layers.2.", "post_layernorm", "head")
    behind = tuple(f"vision_tower.vision_model.{part}" for part in parts)
    # A key bias shifts all scores of a query alike: softmax leaves it no true gradient.
    unclear = {name for name in names if name.endswith("k_proj.bias")}
    expected = {name for name in names if not name.startswith(behind)}
    assert moved | unclear == expected | unclear


def test_adamw_may_keep_its_moments_in_8_bits(folder, tmp_path):
    losses = logged(train(folder, tmp_path, "--optim", "adamw_bnb_8bit", "--learning_rate", "1e-3"))
    assert losses[-1] < losses[0]


def test_a_tower_rate_of_zero_leaves_the_tower_alone(folder, tmp_path):
    flags = ["--tune_vision_tower", "True", "--vision_tower_learning_rate", "0"]
    with pytest.raises(RuntimeError, match="vision_tower should learn but did not move"):
        train(folder, tmp_path, *flags, "--max_steps", "60", "--save_strategy", "no")


def test_each_part_gets_its_own_learning_rate():
    tower, rest = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(
        [
            {"params": [tower.weight, rest.weight], "weight_decay": 0.1},
            {"params": [tower.bias, rest.bias], "weight_decay": 0.0},
        ],
        lr=1e-3,
    )
    _split_groups(optimizer, tower, 1e-5)
    found = {
        id(parameter): (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert found == {
        id(tower.weight): (1e-5, 0.1),
        id(rest.weight): (1e-3, 0.1),
        id(tower.bias): (1e-5, 0.0),
        id(rest.bias): (1e-3, 0.0),
    }


def logged(output_dir):
    [state] = output_dir.glob("checkpoint-*/trainer_state.json")
    return [told["loss"] for told in json.loads(state.read_text())["log_history"] if "loss" in told]


def test_speed_and_memory_are_logged(folder, tmp_path):
    train(folder, tmp_path, "--gradient_accumulation_steps", "2")
    state = json.loads((tmp_path / "checkpoint-4/trainer_state.json").read_text())
    told = [line for line in state["log_history"] if "loss" in line]
    assert len(told) == 4
    for line in told:
        assert line["tokens_per_second"] > 0
        assert 0 < line["learned_share"] < 1
        assert line["memory_gib"] > 0.05
        assert 0 <= line["padding_share"] < 1


@pytest.mark.parametrize("attention", ["auto", "eager"])
def test_a_batch_of_tokens_trains_as_its_rows(attention, folder, tmp_path):
    rows = ["--per_device_train_batch_size", "24", "--max_length", "64"]
    expected = logged(train(folder, tmp_path / "rows", *rows))
    tokens = ["--batch_tokens", "2048", "--attention", attention]
    told = logged(train(folder, tmp_path / "tokens", *rows, *tokens))
    assert told == pytest.approx(expected, rel=1e-4)


def test_a_loss_of_zero_stops_and_names_the_rows(folder, tmp_path, monkeypatch):
    """One of four micro-batches has lost its labels; the loss of the others is sound."""
    collate = Collator.__call__

    def without_labels(self, packs):
        batch = collate(self, packs)
        if any("id r5)" in name for name in batch["row_ids"]):
            batch["shift_labels"].fill_(IGNORED)
        return batch

    monkeypatch.setattr(Collator, "__call__", without_labels)
    flags = ["--per_device_train_batch_size", "1", "--gradient_accumulation_steps", "4"]
    told = r"the loss is 0\.0 at step \d on rank 0, rows \['[^']*\(id r5\)'\].*check_data\.py"
    with pytest.raises(FloatingPointError, match=told):
        train(folder, tmp_path, *flags, "--max_steps", "6")


def test_what_a_batch_of_tokens_leaves_empty_is_logged(folder, tmp_path):
    """All 24 rows are one pack of 4096 places."""
    flags = ["--batch_tokens", "4096", "--max_length", "64", "--max_steps", "1"]
    out = train(folder, tmp_path, *flags)
    [told] = json.loads((out / "checkpoint-1/trainer_state.json").read_text())["log_history"]
    processor = AutoProcessor.from_pretrained(out)
    collator = Collator(processor, 4, 64)
    rows = Conversations([folder / "data/rows.json"])
    tokens = sum(len(row.input_ids) for row in collator.encode(list(rows)))
    assert told["padding_share"] == pytest.approx(1 - tokens / 4096)


def test_a_broken_picture_costs_its_row_and_not_its_batch(folder, tmp_path):
    rows = write_rows(tmp_path, example_rows(24))
    (tmp_path / "5.png").write_bytes((tmp_path / "5.png").read_bytes()[:60])
    out = train(folder, tmp_path / "out", "--conversations", str(rows), "--image_root", "",
                "--batch_tokens", "256", "--max_length", "64", "--quarantine_budget", "0.05",
                "--num_train_epochs", "1", "--max_steps", "-1")  # fmt: skip
    [told] = (out / "quarantine-conversations.jsonl").read_text().splitlines()
    assert json.loads(told)["row"] == 5
    assert "(id r5)" in told
    state = json.loads(next(out.glob("checkpoint-*/trainer_state.json")).read_text())
    assert state["epoch"] == 1


def test_a_batch_of_tokens_must_hold_a_row(folder, tmp_path):
    with pytest.raises(SystemExit, match="--batch_tokens 64 must hold a row of --max_length 128"):
        train(folder, tmp_path, "--batch_tokens", "64", "--max_length", "128")


def cut_off(whole, step, directory):
    """What a run killed soon after its checkpoint at ``step`` would have left."""
    shutil.copytree(whole / f"checkpoint-{step}", directory / f"checkpoint-{step}")
    shutil.copy(whole / "recipe.json", directory / "started.json")


def test_a_run_cut_off_after_a_checkpoint_ends_bit_equal(folder, tmp_path):
    """The next fifty losses too, with another number of workers, and batches of tokens."""
    flags = ["--save_steps", "10", "--save_total_limit", "99", "--max_steps", "60",
             "--batch_tokens", "128", "--max_length", "64"]  # fmt: skip
    whole = train(folder, tmp_path / "whole", *flags)
    cut_off(whole, 10, tmp_path / "cut")
    again = train(folder, tmp_path / "cut", *flags, "--dataloader_num_workers", "1")
    first, second = (load_file(path / "model.safetensors") for path in (whole, again))
    assert all(torch.equal(first[name], second[name]) for name in first)
    histories = [
        json.loads((path / "checkpoint-60/trainer_state.json").read_text())["log_history"]
        for path in (whole, again)
    ]
    assert [entry["loss"] for entry in histories[0]] == [entry["loss"] for entry in histories[1]]


def test_a_run_cut_off_in_its_second_epoch_sees_the_same_rows(folder, tmp_path):
    flags = ["--save_steps", "2", "--save_total_limit", "9", "--max_steps", "10"]  # 6 an epoch
    whole = train(folder, tmp_path / "whole", *flags)
    cut_off(whole, 8, tmp_path / "cut")
    again = train(folder, tmp_path / "cut", *flags)
    first, second = (load_file(path / "model.safetensors") for path in (whole, again))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_directory_that_is_no_llava_is_refused(folder, tmp_path):
    with pytest.raises(ValueError, match=r"has no config\.json"):
        train(folder, tmp_path / "out", start="data")
    with pytest.raises(ValueError, match=r"no directory .*nowhere: .*pretrain_projector"):
        train(folder, tmp_path / "out", start="nowhere")
    with pytest.raises(ValueError, match="'llama' model"):
        train(folder, tmp_path / "out", start="llm")
