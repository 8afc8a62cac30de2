"""Stage 4 with adapters: LoRA, DoRA and QLoRA, from training to a merged directory."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, LlavaForConditionalGeneration

from mllm.adapters import open_adapted
from mllm.assemble import assemble
from mllm.chat import Chat
from scripts.merge import merge_into
from tests.tiny_llava import (
    asked,
    example_rows,
    likeliest,
    picture,
    write_language_model,
    write_rows,
    write_tower,
)
from training.finetune import Finetune, base_of, learner_of, main
from training.llava_model import open_llava
from training.progress import parameter_table

ADAPTERS = "adapter_model.safetensors"

KINDS = {
    "lora": "{rank: 4, alpha: 8, dropout: 0}",
    "dora": "{rank: 4, alpha: 8, dropout: 0, dora: true}",
    "qlora": "{rank: 4, alpha: 8, dropout: 0, quantized: true}",
    "lora and tower": "{rank: 4, alpha: 8, dropout: 0}",
}
TOWER = ["--tune_vision_tower", "True", "--vision_tower_learning_rate", "1e-3"]


def flags_of(kind):
    return TOWER if "tower" in kind else []


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("lora")
    # Blocks of 64 weights are quantised together.
    tower, llm = write_tower(root / "tower"), write_language_model(root / "llm", width=64)
    assemble(str(tower), str(llm), root / "start", system="")
    write_rows(root / "data", example_rows(24))
    return root


def train(folder, output_dir, lora, *flags):
    main([
        "--model", str(folder / "start"), "--conversations", str(folder / "data/rows.json"),
        "--output_dir", str(output_dir), "--lora", lora, "--max_steps", "56", "--save_steps", "4",
        "--report_to", "none", "--per_device_train_batch_size", "4", "--learning_rate", "1e-2",
        "--logging_steps", "1", "--disable_tqdm", "True", "--warmup_steps", "0",
        "--save_total_limit", "99", *flags,
    ])  # fmt: skip
    return output_dir


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def trained(kind, folder, tmp_path_factory):
    return train(folder, tmp_path_factory.mktemp("out") / kind, KINDS[kind], *flags_of(kind))


def logged(directory):
    told = json.loads((directory / "trainer_state.json").read_text())["log_history"]
    return [line["loss"] for line in told if "loss" in line]


def logits(model, directory):
    with torch.no_grad():
        return model.eval()(**asked(directory)).logits


def test_adapters_and_projector_learn(trained, kind):
    losses = logged(trained / "checkpoint-56")
    assert losses[-1] < losses[0]
    saved = load_file(trained / "adapter_model.safetensors")
    parts = {name.split("base_model.model.")[1].split(".")[1] for name in saved}
    more = {"vision_tower"} if "tower" in kind else set()
    assert parts == {"language_model", "multi_modal_projector"} | more
    assert any("lora_magnitude_vector" in name for name in saved) == (kind == "dora")
    # Seven linear maps in each of two layers.
    assert sum("lora_A" in name for name in saved) == 14
    names = {path.name for path in trained.iterdir() if path.is_file()}
    assert {"base.json", "chat_template.jinja", "processor_config.json"} <= names
    assert "model.safetensors" not in names


def test_it_answers_from_its_directory(trained):
    answers = []
    for directory in (trained, trained / "checkpoint-4"):
        model = open_adapted(directory, dtype=torch.float32, device_map="cpu")
        answers.append(Chat(directory, "cpu").answer(picture(0), "what", max_new_tokens=4))
        assert answers[-1] == likeliest(model, directory, 4)
    assert len(set(answers)) == 2


def test_every_save_opens_alike(trained, folder):
    """A checkpoint's adapters are where those of the result are, under the same names."""
    names = load_file(trained / "adapter_model.safetensors").keys()
    assert load_file(trained / "checkpoint-4/adapter_model.safetensors").keys() == names
    last = load_file(trained / "checkpoint-56/adapter_model.safetensors")
    for name, tensor in load_file(trained / "adapter_model.safetensors").items():
        assert torch.equal(tensor, last[name]), name


def test_a_merged_directory_says_the_same(trained, kind, folder, tmp_path):
    difference = merge_into(trained, tmp_path / "merged")
    assert difference < (2e-2 if kind == "qlora" else 1e-5)
    merged = LlavaForConditionalGeneration.from_pretrained(tmp_path / "merged")
    told = logits(merged, tmp_path / "merged")
    expected = logits(open_adapted(trained, dtype=torch.float32, device_map="cpu"), trained)
    scale = expected.abs().max()
    torch.testing.assert_close(told / scale, expected / scale, atol=max(difference, 1e-6), rtol=0)
    start = LlavaForConditionalGeneration.from_pretrained(folder / "start")
    assert (logits(start, trained) - expected).abs().max() > 0.1
    assert "quantization_config" not in (tmp_path / "merged/config.json").read_text()
    answer = Chat(tmp_path / "merged", "cpu").answer(picture(0), "what", max_new_tokens=4)
    assert answer == likeliest(merged, tmp_path / "merged", 4)


def test_a_resumed_run_repeats_fifty_losses(trained, kind, folder, tmp_path):
    shutil.copytree(trained / "checkpoint-4", tmp_path / "checkpoint-4")
    shutil.copy(trained / "recipe.json", tmp_path / "started.json")
    started = json.loads((tmp_path / "started.json").read_text())
    train(folder, tmp_path, KINDS[kind], *flags_of(kind), "--dataloader_num_workers", "1")
    assert logged(tmp_path / "checkpoint-56") == logged(trained / "checkpoint-56")
    assert started["recipe"]["lora"] == KINDS[kind]


@pytest.mark.parametrize("kind", ["lora", "lora and tower"])
def test_stock_transformers_opens_lora(kind, folder, tmp_path):
    out = train(folder, tmp_path / "lora", KINDS[kind], *flags_of(kind), "--max_steps", "8")
    told = logits(AutoModelForImageTextToText.from_pretrained(out), out)
    expected = logits(open_adapted(out, dtype=torch.float32, device_map="cpu"), out)
    assert torch.equal(told, expected)


def test_the_first_weights_follow_the_seed(folder, tmp_path):
    """Whatever was drawn in this process before."""
    flags = ("--max_steps", "1", "--seed")
    told = []
    for name, seed in (("a", "7"), ("b", "7"), ("c", "8")):
        torch.rand(len(told) + 1)
        out = train(folder, tmp_path / name, "{rank: 4}", *flags, seed)
        told.append(load_file(out / "adapter_model.safetensors"))
    first = next(name for name in told[0] if "lora_A" in name)
    assert torch.equal(told[0][first], told[1][first])
    assert not torch.equal(told[0][first], told[2][first])


@pytest.mark.parametrize("lora", [KINDS["lora"], KINDS["qlora"]])
def test_a_tower_beside_adapters_has_its_own_rate(lora, folder, tmp_path):
    """AdamW's first step is the rate itself, whatever the gradient. What lies behind the layer
    that is read stays as it was."""
    out = train(folder, tmp_path / "out", lora, "--max_steps", "1", *TOWER)
    before, after = load_file(folder / "start/model.safetensors"), load_file(out / ADAPTERS)
    moved = {}
    for name, tensor in after.items():
        if "lora_" not in name:
            plain = name.removeprefix("base_model.model.model.")
            first = before[plain.replace("vision_tower.", "vision_tower.vision_model.")]
            moved[name] = (tensor - first).abs().max().item()
    of_tower = {name: by for name, by in moved.items() if "vision_tower" in name}
    behind = ("encoder.layers.2.", "post_layernorm")
    assert len(of_tower) == 55
    for name, by in of_tower.items():
        expected = 0 if any(part in name for part in behind) else 1e-3
        assert by == pytest.approx(expected, rel=1e-2) or name.endswith("k_proj.bias"), name
    others = moved.keys() - of_tower.keys()
    assert len(others) == 4
    assert [moved[name] for name in others] == pytest.approx([1e-2] * 4, rel=1e-2)


def test_parts_are_named(folder, tmp_path):
    told = train(folder, tmp_path, "{rank: 2, parts: [attention]}", "--max_steps", "1")
    saved = load_file(told / "adapter_model.safetensors")
    adapted = {name.split(".")[-3] for name in saved if "lora_A" in name}
    assert adapted == {"q_proj", "k_proj", "v_proj", "o_proj"}


@pytest.mark.parametrize(
    ("lora", "flags", "told"),
    [
        ("{rank: 0}", [], "rank: Input should be greater than 0"),
        ("{ranks: 4}", [], "ranks: Unexpected keyword argument"),
        ("{parts: [q_proj]}", [], "'attention' or 'mlp'"),
        ("rank", [], "is no mapping of settings"),
    ],
)
def test_mistakes_are_told_before_training(lora, flags, told, folder, tmp_path):
    with pytest.raises(SystemExit, match=told):
        train(folder, tmp_path, lora, *flags)


def test_what_4_bits_cannot_hold_is_refused_before_training(folder, tmp_path):
    llm = write_language_model(tmp_path / "llm", width=32)
    assemble(str(folder / "tower"), str(llm), tmp_path / "start", system="")
    with pytest.raises(ValueError, match=r"reads 32 values and cannot .* multiples of 64: leave"):
        train(folder, tmp_path / "out", KINDS["qlora"], "--model", str(tmp_path / "start"))


def test_adapters_of_a_base_that_changed_or_went_are_refused(folder, tmp_path):
    shutil.copytree(folder / "start", tmp_path / "base")
    out = train(folder, tmp_path / "out", KINDS["lora"], "--model", str(tmp_path / "base"))
    weights = tmp_path / "base/model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(ValueError, match="its weights have changed since"):
        Chat(out, "cpu")
    shutil.rmtree(tmp_path / "base")
    with pytest.raises(ValueError, match="which is not there: put it back"):
        merge_into(out, tmp_path / "merged")
    (out / "base.json").unlink()
    with pytest.raises(ValueError, match=r"no base\.json that says of what"):
        Chat(out, "cpu")


def test_damaged_adapters_are_refused(folder, tmp_path):
    """A flipped bit, by the sums of the result and of a checkpoint; a cut without sums."""
    out = train(folder, tmp_path / "out", KINDS["lora"], "--max_steps", "4")
    for directory in (out, out / "checkpoint-4"):
        data = bytearray((directory / ADAPTERS).read_bytes())
        data[-9] ^= 1
        (directory / ADAPTERS).write_bytes(data)
        for use in (lambda d: Chat(d, "cpu"), lambda d: merge_into(d, tmp_path / "merged")):
            with pytest.raises(
                ValueError, match=r"adapter_model\.safetensors is not what was writ"
            ):
                use(directory)
        (directory / "sha256.json").unlink()
        Chat(directory, "cpu")
        (directory / ADAPTERS).write_bytes(data[: len(data) // 2])
        for use in (lambda d: Chat(d, "cpu"), lambda d: merge_into(d, tmp_path / "merged")):
            with pytest.raises(
                ValueError, match=r"adapter_model\.safetensors cannot be read.*copy"
            ):
                use(directory)


def test_a_base_cut_short_is_told_by_name(folder, tmp_path):
    shutil.copytree(folder / "start", tmp_path / "base")
    weights = tmp_path / "base/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    with pytest.raises(ValueError, match=r"base/model\.safetensors cannot be read"):
        train(folder, tmp_path / "out", KINDS["lora"], "--model", str(tmp_path / "base"))


def test_a_run_does_not_go_on_with_a_base_that_changed(folder, tmp_path):
    shutil.copytree(folder / "start", tmp_path / "base")
    flags = ["--model", str(tmp_path / "base"), "--max_steps", "4"]
    out = train(folder, tmp_path / "out", KINDS["lora"], *flags)
    (out / "recipe.json").rename(out / "started.json")
    weights = tmp_path / "base/model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(ValueError, match=r"checkpoint-4 holds adapters of .* weights have changed"):
        train(folder, out, KINDS["lora"], *flags)
    data[-1] ^= 1
    weights.write_bytes(data)
    train(folder, out, KINDS["lora"], *flags)
    assert (out / "recipe.json").is_file()


def test_only_a_process_that_saves_hashes_the_base(folder, tmp_path, monkeypatch):
    args = arguments(folder, tmp_path, "lora")
    assert base_of(args, args.adapters)["sha256"].keys() == {"model.safetensors"}
    monkeypatch.setattr(Finetune, "should_save", False)
    monkeypatch.setattr("training.finetune.base_record", lambda *_: pytest.fail("it is hashed"))
    assert base_of(args, args.adapters) is None


def arguments(folder, output_dir, kind):
    return Finetune(
        output_dir=str(output_dir), model=str(folder / "start"), conversations=["x"],
        lora=KINDS[kind],
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["lora", "qlora"])
def test_the_parameter_table_counts_values_once(kind, folder, tmp_path):
    """The projector that peft keeps as it was is not counted, 4 bits are values, not bytes."""
    args = arguments(folder, tmp_path, kind)
    model, _ = open_llava(args.model, args, args.adapters)
    lines = parameter_table(learner_of(args, model)).splitlines()
    told = {
        line.split()[0]: [int(n.replace(",", "")) for n in line.split()[1:]] for line in lines[1:]
    }
    projector = (24 * 64 + 64) + (64 * 64 + 64)
    adapters = 2 * 4 * (4 * (64 + 64) + 3 * (64 + 128))
    layers = 2 * (4 * 64 * 64 + 3 * 64 * 128 + 2 * 64)
    assert told["model.multi_modal_projector"] == [4, projector, projector]
    head = told["lm_head.weight"][1]
    assert told["model.language_model"][1:] == [head + layers + 64 + adapters, adapters]
    assert told["all"][1:] == [sum(row[1] for row in told.values()) - told["all"][1],
                               projector + adapters]  # fmt: skip
    assert list(told)[-1] == "all"


def test_adapters_are_not_trained_on_before_they_are_merged(folder, tmp_path):
    out = train(folder, tmp_path / "out", KINDS["lora"], "--max_steps", "1")
    with pytest.raises(ValueError, match=r"out holds adapters.*python scripts/merge\.py .*out <"):
        train(folder, tmp_path / "next", KINDS["lora"], "--model", str(out))


def test_what_cannot_be_merged_is_refused(folder, tmp_path):
    with pytest.raises(ValueError, match="holds no adapters"):
        merge_into(folder / "start", tmp_path / "merged")
    out = train(folder, tmp_path / "out", KINDS["lora"], "--max_steps", "1")
    (tmp_path / "merged").mkdir()
    with pytest.raises(ValueError, match="is there already"):
        merge_into(out, tmp_path / "merged")
