import json
import shutil

import datasets
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch._dynamo.utils import counters

from tests.tiny_tower import write_captions, write_edits, write_tower
from training.quarantine import quarantined
from training.recipe import read_recipe
from training.stage import StageTrainer
from training.train_vision_tower import LossWeights, TrainVisionTower, main, read_rows
from vision_tower.batches import PairCollator
from vision_tower.towers import load_tower, save_tower


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    data = tmp_path_factory.mktemp("stage2")
    tower = load_tower(str(write_tower(data / "base"))).with_rotary_text(248, 10000.0)
    save_tower(tower, data / "rotary")
    write_captions(data, 26)  # the last two fill no step of six
    write_edits(data / "edits.parquet", 20)
    return data


@pytest.fixture
def flags(data, tmp_path):
    return [
        *("--tower", str(data / "rotary"), "--captions", str(data / "captions.json")),
        *("--edits", str(data / "edits.parquet")),
        *("--output_dir", str(tmp_path / "tower"), "--use_cpu", "--report_to", "none"),
        *("--per_device_train_batch_size", "6", "--edit_batch_size", "4", "--max_steps", "10"),
        *("--warmup_steps", "2", "--learning_rate", "0.003", "--logging_steps", "1"),
        *("--save_steps", "4", "--disable_tqdm", "True"),
    ]


def logs(output_dir, step=10):
    state = json.loads((output_dir / f"checkpoint-{step}" / "trainer_state.json").read_text())
    return [entry for entry in state["log_history"] if "loss" in entry]


def test_every_part_of_the_tower_learns(data, flags, tmp_path):
    main([*flags, "--max_steps", "60"])
    told = logs(tmp_path / "tower", 60)
    for name in ("short", "long", "hard_negative"):
        first, last = (sum(entry[name] for entry in part) for part in (told[:5], told[-5:]))
        assert last < 0.9 * first, name
    for entry in told:
        total = entry["short"] + entry["long"] + entry["hard_negative"]
        assert entry["loss"] == pytest.approx(total, rel=1e-5)
    before, after = (load_tower(str(d)) for d in (data / "rotary", tmp_path / "tower"))
    for name, tensor in before.state_dict().items():
        assert not torch.equal(tensor, after.state_dict()[name]), name
    assert after.context_length == 248
    assert after.config == before.config
    assert (tmp_path / "tower" / "vision" / "preprocessor_config.json").is_file()


@pytest.mark.parametrize("micro_batches", ["1", "2"])
def test_killed_and_resumed_it_ends_bit_equal(micro_batches, flags, tmp_path, monkeypatch):
    sizes = {"1": ("6", "4"), "2": ("3", "2")}[micro_batches]
    flags = [*flags, "--gradient_accumulation_steps", micro_batches]
    flags += ["--per_device_train_batch_size", sizes[0], "--edit_batch_size", sizes[1]]
    main(flags)
    weights = tmp_path / "tower" / "open_clip_model.safetensors"
    whole, told = load_file(weights), logs(tmp_path / "tower")
    shutil.rmtree(tmp_path / "tower")
    compute_loss = StageTrainer.compute_loss

    def kill(self, *args, **kwargs):
        if self.state.global_step == 6:
            raise KeyboardInterrupt
        return compute_loss(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(StageTrainer, "compute_loss", kill)
        with pytest.raises(KeyboardInterrupt):
            main(flags)
    main(flags)  # from checkpoint-4, in the middle of the second epoch
    resumed = load_file(weights)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert [e["loss"] for e in told] == [e["loss"] for e in logs(tmp_path / "tower")]


def test_micro_batches_train_as_one_batch(flags, tmp_path):
    """Their rows are negatives of each other; at the end of an epoch too there are no fewer."""
    main([*flags, "--output_dir", str(tmp_path / "one")])
    sizes = ["--per_device_train_batch_size", "3", "--edit_batch_size", "2"]
    main([*flags, *sizes, "--gradient_accumulation_steps", "2"])
    one, two = (logs(tmp_path / name) for name in ("one", "tower"))
    for name in ("loss", "short", "long", "hard_negative", "grad_norm"):
        values = [[entry[name] for entry in told] for told in (one, two)]
        assert values[1] == pytest.approx(values[0], rel=1e-4), name


def test_the_ladder_of_edit_losses(flags, tmp_path):
    first = {}
    for name in ("negclip", "tripletclip", "symmetric"):
        where = tmp_path / name
        main([*flags, "--edit_loss", name, "--max_steps", "1", "--save_steps", "1",
              "--output_dir", str(where)])  # fmt: skip
        first[name] = logs(where, 1)[0]["hard_negative"]
    assert first["negclip"] < first["tripletclip"] < first["symmetric"]


@pytest.mark.parametrize("learning", ["image", "text", "temperature"])
def test_the_other_parts_stay_as_they_are(learning, data, flags, tmp_path):
    main([*flags, "--learning", learning, "--max_steps", "2"])
    before, after = (load_tower(str(d)) for d in (data / "rotary", tmp_path / "tower"))
    part = {"visual": "image", "text": "text", "logit_scale": "temperature", "logit_bias": "no"}
    for name, tensor in before.state_dict().items():
        same = torch.equal(tensor, after.state_dict()[name])
        assert same == (part[name.split(".")[0]] != learning), name


def test_compiled_it_is_the_same(flags, tmp_path):
    """By all but the compiler: what it is handed is ours."""
    two = ["--gradient_accumulation_steps", "2", "--max_steps", "2", "--save_steps", "2"]
    two += ["--per_device_train_batch_size", "3", "--edit_batch_size", "2"]
    losses = []
    for backend in ([], ["--torch_compile_backend", "aot_eager"]):
        counters.clear()
        where = tmp_path / f"compiled{len(backend)}"
        main([*flags, *backend, *two, "--output_dir", str(where)])
        assert (counters["frames"]["ok"] > 0) == bool(backend)
        losses.append(torch.tensor([entry["loss"] for entry in logs(where, 2)]))
        assert load_tower(str(where)).context_length == 248
    torch.testing.assert_close(*losses, rtol=1e-4, atol=0)


def test_large_pictures_are_decoded_smaller(data, flags, tmp_path):
    turned = Image.Exif()
    turned[0x0112] = 6
    picture = Image.new("RGB", (256, 128))
    picture.save(tmp_path / "a.jpg", exif=turned)
    turns = [{"from": "gpt", "value": "A thing. It is black."}]
    row = {"image": "a.jpg", "conversations": turns}
    (tmp_path / "captions.json").write_text(json.dumps([row] * 6))
    edit = {name: (tmp_path / "a.jpg").read_bytes() for name in ("source_image", "edited_image")}
    edit |= dict.fromkeys(("source_caption", "target_caption", "edit_prompt"), "a thing")
    datasets.Dataset.from_list([edit] * 4).to_parquet(tmp_path / "edits.parquet")
    flags += ["--captions", f"{tmp_path}/captions.json", "--edits", f"{tmp_path}/edits.parquet"]
    rows, _ = read_rows(read_recipe(TrainVisionTower, flags), load_tower(str(data / "rotary")))
    edited = rows.edits[0]
    for image in (rows.captions[0].image, edited.source_image, edited.edited_image):
        assert image.size == (32, 64), "twice the tower's 16 pixels, upright"


def test_a_finished_run_is_known_by_its_weights_said_otherwise(flags, monkeypatch):
    flags += ["--max_steps", "1"]
    main([*flags, "--loss_weights", "{hard_negative: 0.5}"])
    monkeypatch.setattr(StageTrainer, "train", lambda *_, **__: pytest.fail("it trained"))
    main([*flags, "--loss_weights", "{short: 1, long: 1.0, hard_negative: 0.5}"])
    with pytest.raises(ValueError, match="made by another recipe"):
        main(flags)


def test_without_hard_negatives_no_edit_is_needed(flags, tmp_path):
    place = flags.index("--edits")
    without = [*flags[:place], *flags[place + 2 :], "--loss_weights", "{hard_negative: 0}"]
    main([*without, "--max_steps", "2"])
    assert "hard_negative" not in logs(tmp_path / "tower", 2)[0]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--learning", "vision"], "image, text and temperature, not .'vision'"),
        (["--edits", "none.parquet"], "no file 'none.parquet'"),
        (["--edit_batch_size", "21"], "21 edit rows.*only 20"),
        (["--per_device_train_batch_size", "27"], "27 caption rows.*only 26"),
        (["--tower", "nowhere"], "'nowhere' is neither"),
        (["--loss_weights", "{short: -1}"], "short: Input should be greater than or equal to 0"),
        (["--loss_weights", "{logn: 1}"], "logn: .*There are short, long, hard_negative"),
        (["--loss_weights", "{long: .inf}"], "long: Input should be a finite number"),
        (["--loss_weights", "{1: 2}"], "is no mapping of settings"),
        (["--match", "sigmoid"], "needs a tower with a logit_bias"),
    ],
)
def test_mistakes_are_told_before_training(flags, tmp_path, more, told, monkeypatch):
    monkeypatch.setattr(StageTrainer, "train", lambda *_, **__: pytest.fail("it trained"))
    with pytest.raises((SystemExit, ValueError, FileNotFoundError), match=told):
        main([*flags, *more])


def test_missing_pictures_are_told_before_training(data, flags):
    entry = f"{{files: {data}/captions.json, image_root: elsewhere}}"
    with pytest.raises(FileNotFoundError, match=r"json row 0.*there is no picture.*image_root"):
        main([*flags, "--captions", entry])


def test_edits_are_required_by_name(flags):
    place = flags.index("--edits")
    with pytest.raises(SystemExit, match=r"nothing is given for edits.*--edits"):
        main(flags[:place] + flags[place + 2 :])


def test_a_truncated_picture_stops_with_its_row_or_is_replaced(data, flags, tmp_path, caplog):
    shutil.copytree(data / "images", tmp_path / "images")
    picture = tmp_path / "images" / "7.png"
    picture.write_bytes(picture.read_bytes()[:60])
    flags += ["--captions", f"{{files: {data}/captions.json, image_root: {tmp_path}}}"]
    with pytest.raises(ValueError, match=r"row 7 \(id c7\).*cannot be decoded"):
        main(flags)
    main([*flags, "--quarantine_budget", "0.04"])  # goes on where it was
    [broken] = quarantined(tmp_path / "tower" / "quarantine-captions.jsonl").items()
    assert broken[0] == 7
    assert "cannot be decoded" in broken[1]
    assert "1 rows could not be read" in caplog.text


def test_a_mixture_is_trained_on(data, flags, tmp_path):
    entries = [f"{{files: {data}/captions.json, weight: {weight}}}" for weight in (2, 1)]
    main([*flags, "--captions", *entries, "--max_steps", "3"])
    assert len(logs(tmp_path / "tower", 3)) == 3


def test_a_loss_that_is_not_finite_names_its_rows(data, flags, monkeypatch):
    call = PairCollator.__call__

    def spoil(self, rows):
        batch = call(self, rows)
        batch["pixel_values"][0] = float("nan")
        return batch

    monkeypatch.setattr(PairCollator, "__call__", spoil)
    with pytest.raises(
        FloatingPointError, match=r"step 0.*captions\.json row \d+.*edits\.parquet row"
    ):
        main(flags)


def test_the_defaults_are_the_published_recipe(tmp_path):
    args = TrainVisionTower(
        tower="a",
        captions=["b"],
        edits=["d"],
        output_dir=str(tmp_path),
        use_cpu=True,
    )
    told = (args.learning_rate, args.weight_decay, args.warmup_steps, args.num_train_epochs)
    assert told == (1e-6, 0.01, 200, 1)
    assert args.weights == LossWeights(1, 1, 1)
    assert args.lr_scheduler_type == "cosine"
