import json
import shutil
from dataclasses import fields

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional
from transformers import AutoModelForImageTextToText, AutoProcessor

from mllm.chat import Chat
from mllm.collate import Collator
from mllm.conversation_files import Conversations
from mllm.conversations import ConversationError
from mllm.packs import OpenedRows, Packs
from mllm.processor import image_token_count
from tests.tiny_llava import (
    example_rows,
    picture,
    row,
    write_language_model,
    write_rows,
    write_tower,
)
from training.llava_model import keep_in_eval, open_llava
from training.pretrain_projector import PretrainProjector, main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("stage3")
    write_tower(root / "tower")
    write_language_model(root / "llm")
    write_rows(root / "data", example_rows(24))
    return root


def arguments(folder, output_dir, *flags):
    return [
        "--vision_tower", str(folder / "tower"), "--language_model", str(folder / "llm"),
        "--conversations", str(folder / "data/rows.json"), "--image_root", str(folder / "data"),
        "--output_dir", str(output_dir), "--max_steps", "4", "--report_to", "none",
        "--per_device_train_batch_size", "4", "--logging_steps", "1", "--disable_tqdm", "True",
        "--system=", "--warmup_steps", "0", *flags,
    ]  # fmt: skip


def losses(directory, step=4):
    history = json.loads((directory / f"checkpoint-{step}/trainer_state.json").read_text())
    return [entry["loss"] for entry in history["log_history"] if "loss" in entry]


@pytest.fixture(scope="module")
def trained(folder):
    main(arguments(folder, folder / "out"))
    return folder / "out"


def test_the_defaults_are_llava_1_5s():
    defaults = {field.name: field.default for field in fields(PretrainProjector)}
    assert defaults["learning_rate"] == 1e-3
    assert defaults["warmup_steps"] == 0.03
    assert defaults["weight_decay"] == 0
    assert defaults["lr_scheduler_type"] == "cosine"
    assert defaults["num_train_epochs"] == 1
    assert defaults["per_device_train_batch_size"] * 8 == 256
    assert defaults["max_length"] == 2048


def test_only_the_projector_learned(trained):
    before = load_file(trained / "assembled/model.safetensors")
    after = load_file(trained / "model.safetensors")
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if name.startswith("multi_modal_projector.")}
    assert len(changed) == 4


def test_the_result_is_a_stock_directory_that_answers(trained):
    AutoModelForImageTextToText.from_pretrained(trained)
    assert Chat(trained).answer(picture(0), "what is in the picture", max_new_tokens=3)
    assert (trained / "recipe.json").is_file()


def test_a_finished_stage_is_not_run_again(trained, folder):
    before = (trained / "model.safetensors").stat().st_mtime_ns
    main(arguments(folder, trained))
    assert (trained / "model.safetensors").stat().st_mtime_ns == before


def test_the_loss_is_the_mean_over_the_global_batchs_supervised_tokens(folder, tmp_path):
    main(arguments(folder, tmp_path, "--train_sampling_strategy", "sequential"))
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "assembled")
    processor = AutoProcessor.from_pretrained(tmp_path / "assembled")
    opened = OpenedRows(Conversations([folder / "data/rows.json"]))
    rows = Packs(opened, [[0], [1], [2], [3]])
    collate = Collator(processor, image_token_count(model.config), 256)
    total, count = 0.0, 0
    for entry in rows:  # rows have answers of different lengths: a mean of means would differ
        batch = collate([entry])
        inputs = {name: batch[name] for name in ("input_ids", "position_ids", "pixel_values")}
        logits = model(**inputs, use_cache=False).logits
        target = batch["labels"][0, 1:]
        total += functional.cross_entropy(logits[0, :-1], target, reduction="sum").item()
        count += int((target != -100).sum())
    assert losses(tmp_path)[0] == pytest.approx(total / count, rel=1e-5)


def test_accumulation_gives_the_losses_of_one_large_batch(trained, folder, tmp_path):
    flags = ["--per_device_train_batch_size", "1", "--gradient_accumulation_steps", "4"]
    main(arguments(folder, tmp_path, *flags))
    assert losses(tmp_path) == pytest.approx(losses(trained), rel=1e-5)


def test_the_frozen_tower_keeps_no_graph_and_stays_in_eval(trained, folder):
    args = PretrainProjector(
        output_dir="x", vision_tower="x", language_model="x", conversations=["x"], image_root="x"
    )
    model, processor = open_llava(trained, args)
    tower = model.model.vision_tower
    model.requires_grad_(False)
    model.model.multi_modal_projector.requires_grad_(True)
    keep_in_eval(tower)
    model.train()
    pixels = processor.image_processor(picture(0), return_tensors="pt")["pixel_values"]
    out = model.get_image_features(pixels, output_hidden_states=True)
    assert not any(module.training for module in tower.modules())
    assert model.model.language_model.training
    assert not any(state.requires_grad for state in out.hidden_states)
    assert out.pooler_output[0].requires_grad


@pytest.fixture(scope="module")
def in_bf16(folder):
    main(arguments(folder, folder / "bf16", "--bf16", "True", "--save_steps", "2"))
    return folder / "bf16"


def test_in_bf16_only_the_projector_is_held_in_fp32(in_bf16, trained):
    """What is frozen stays as it was assembled, to the last bit; the losses are those of fp32."""
    before = load_file(in_bf16 / "assembled/model.safetensors")
    after = load_file(in_bf16 / "model.safetensors")
    for name, tensor in after.items():
        learned = name.startswith("multi_modal_projector.")
        assert tensor.dtype == (torch.float32 if learned else torch.bfloat16), name
        assert torch.equal(tensor, before[name]) != learned, name
    assert losses(in_bf16) == pytest.approx(losses(trained), rel=1e-2)
    assert Chat(in_bf16).dtype == "bfloat16"


def test_a_resumed_run_in_bf16_ends_bit_equal(in_bf16, folder, tmp_path):
    """The projector's fp32 weights are not rounded on the way."""
    shutil.copytree(in_bf16 / "checkpoint-2", tmp_path / "checkpoint-2")
    shutil.copytree(in_bf16 / "assembled", tmp_path / "assembled")
    shutil.copy(in_bf16 / "recipe.json", tmp_path / "started.json")
    main(arguments(folder, tmp_path, "--bf16", "True", "--save_steps", "2"))
    assert losses(tmp_path) == losses(in_bf16)
    whole, again = (load_file(path / "model.safetensors") for path in (in_bf16, tmp_path))
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_a_missing_image_stops_before_anything_is_trained(folder, tmp_path):
    broken = write_rows(tmp_path / "data", [row("lost", "x.png", "what", "one")])
    (tmp_path / "data/x.png").unlink()
    flags = ["--conversations", str(broken), "--image_root", str(tmp_path / "data")]
    with pytest.raises(ConversationError, match=r"row 0 \(id lost\): there is no picture"):
        main(arguments(folder, tmp_path / "out", *flags))
    assert not list((tmp_path / "out").glob("checkpoint-*"))


@pytest.mark.parametrize(
    ("part", "remedy"),
    [("vision_tower", "training/train_vision_tower.py"), ("language_model", "a language model")],
)
def test_a_part_that_is_not_there_is_told(part, remedy, folder, tmp_path):
    with pytest.raises(ValueError, match=f"there is no directory out/not/yet: .*{remedy}"):
        main(arguments(folder, tmp_path, f"--{part}", "out/not/yet"))


def test_what_is_not_given_is_asked_for(tmp_path):
    with pytest.raises(SystemExit, match="vision_tower, language_model, conversations:"):
        main(["--output_dir", str(tmp_path)])
