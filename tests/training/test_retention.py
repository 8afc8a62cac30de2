import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from tests.tiny_tower import picture, write_captions, write_edits, write_tower
from training import adapt_text_encoder, train_vision_tower
from training.arguments import TowerArguments
from training.retention import PROMPT, RetentionProbe
from training.sources import Retention
from vision_tower.captions import Captions
from vision_tower.towers import load_tower, save_tower


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    data = tmp_path_factory.mktemp("data")
    tower = load_tower(str(write_tower(data / "base")))
    save_tower(tower.with_rotary_text(248, 10000.0), data / "rotary")
    write_captions(data, 24)
    write_edits(data / "edits.parquet", 12)
    write_captions(data / "held-out", 9)
    rng = np.random.default_rng(5)
    for name in ("a_cat", "dog", "owl"):
        (data / "classes" / name).mkdir(parents=True)
        for number in range(3):
            picture(rng).save(data / "classes" / name / f"{number}.png")
    return data


def probe(data, tower):
    entries = [str(data / "held-out" / "captions.json")]
    retention = Retention(captions=entries, classes=str(data / "classes"))
    return RetentionProbe(tower, tower, retention, 0.5, print)


def test_scores_are_those_of_a_plain_computation(data):
    tower = load_tower(str(data / "base"))
    args = TowerArguments(tower="t", captions=["c"], output_dir="o", use_cpu=True)
    state = torch.get_rng_state()
    scores = probe(data, tower).measure(tower, args)
    assert torch.equal(state, torch.get_rng_state()), "training must go on as without it"
    captions = Captions([data / "held-out" / "captions.json"])
    rows = [captions[row] for row in range(9)]
    with torch.no_grad():
        images = [tower.encode_image(tower.preprocess(r.image)[None], True)[0] for r in rows]
        texts = [tower.encode_text(tower.tokenizer([r.short]), True)[0] for r in rows]
        prompts = [PROMPT.format(name) for name in ("a cat", "dog", "owl")]
        classes = [tower.encode_text(tower.tokenizer([p]), True)[0] for p in prompts]
    best_text = [max(range(9), key=lambda t: float(images[i] @ texts[t])) for i in range(9)]
    best_image = [max(range(9), key=lambda i: float(images[i] @ texts[t])) for t in range(9)]
    assert scores["retention_0_image_to_text"] == pytest.approx(
        sum(best_text[i] == i for i in range(9)) / 9
    )
    assert scores["retention_0_text_to_image"] == pytest.approx(
        sum(best_image[t] == t for t in range(9)) / 9
    )
    hits = 0
    for label, name in enumerate(("a_cat", "dog", "owl")):
        for file in sorted((data / "classes" / name).iterdir()):
            with torch.no_grad(), Image.open(file) as opened:
                image = tower.encode_image(tower.preprocess(opened)[None], True)[0]
            hits += max(range(3), key=lambda c: float(image @ classes[c])) == label
    assert scores["retention_zero_shot"] == pytest.approx(hits / 9)


def flags(data, output_dir, *more):
    return [
        *("--captions", f"{data}/captions.json", "--output_dir", str(output_dir), "--use_cpu"),
        *("--per_device_train_batch_size", "6", "--report_to", "none", "--disable_tqdm", "True"),
        *("--logging_steps", "1", "--save_steps", "4", "--warmup_steps", "0", "--eval_steps", "3"),
        *more,
    ]


def on_captions(data, steps):
    """Stage 2 without edit pairs."""
    weights = ["--loss_weights", "{hard_negative: 0}"]
    return ["--tower", str(data / "rotary"), *weights, "--max_steps", str(steps)]


def retention(data, floor):
    entry = f"{data}/held-out/captions.json"
    return ["--retention", f"{{captions: [{entry}], classes: {data}/classes, floor: {floor}}}"]


def history(output_dir, step):
    state = json.loads((output_dir / f"checkpoint-{step}" / "trainer_state.json").read_text())
    return [entry for entry in state["log_history"] if "retention_zero_shot" in entry]


def test_a_collapse_stops_the_run_with_the_numbers(data, tmp_path):
    more = ["--tower", str(data / "rotary"), "--edits", str(data / "edits.parquet")]
    more += ["--edit_batch_size", "4", "--max_steps", "9", "--learning_rate", "10"]
    # Every score is at least the floor of 1 of itself at the start: any loss at all stops.
    told = r"at step 3 the tower has lost.*before .*floor of retention is 1 of it"
    with pytest.raises(ValueError, match=told):
        train_vision_tower.main(flags(data, tmp_path / "o", *more, *retention(data, 1)))
    assert json.loads((tmp_path / "o" / "retention.json").read_text())["retention_zero_shot"] > 0


def test_it_is_measured_every_so_often_and_changes_nothing(data, tmp_path):
    more = on_captions(data, 8)
    train_vision_tower.main(flags(data, tmp_path / "watched", *more, *retention(data, 0)))
    assert [entry["step"] for entry in history(tmp_path / "watched", 8)] == [0, 3, 6, 8]
    train_vision_tower.main(flags(data, tmp_path / "plain", *more))
    weights = [load_tower(str(tmp_path / name)).state_dict() for name in ("watched", "plain")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_resumed_run_is_held_to_what_it_began_with(data, tmp_path):
    more = on_captions(data, 8)
    run = flags(data, tmp_path / "o", *more, *retention(data, 0), "--save_total_limit", "2")
    train_vision_tower.main(run)
    first = (tmp_path / "o" / "retention.json").read_text()
    whole = load_tower(str(tmp_path / "o")).state_dict()
    shutil.rmtree(tmp_path / "o" / "checkpoint-8")
    (tmp_path / "o" / "recipe.json").rename(tmp_path / "o" / "started.json")
    train_vision_tower.main(run)
    assert (tmp_path / "o" / "retention.json").read_text() == first
    assert [entry["step"] for entry in history(tmp_path / "o", 8)] == [0, 3, 6, 8]
    resumed = load_tower(str(tmp_path / "o")).state_dict()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_another_floor_goes_on(data, tmp_path):
    more = [*on_captions(data, 6), "--learning_rate", "10", "--save_steps", "2"]
    with pytest.raises(ValueError, match="has lost what it could"):
        train_vision_tower.main(flags(data, tmp_path / "o", *more, *retention(data, 1)))
    train_vision_tower.main(flags(data, tmp_path / "o", *more, *retention(data, 0)))
    assert (tmp_path / "o" / "recipe.json").is_file()


def test_the_losses_are_logged_beside_it(data, tmp_path):
    more = [
        "--tower",
        str(data / "rotary"),
        "--loss_weights",
        "{hard_negative: 0}",
        "--max_steps",
        "6",
    ]
    train_vision_tower.main(flags(data, tmp_path / "o", *more, *retention(data, 0)))
    state = json.loads((tmp_path / "o" / "checkpoint-6" / "trainer_state.json").read_text())
    logged = [entry["step"] for entry in state["log_history"] if "loss" in entry]
    assert logged == [1, 2, 3, 4, 5, 6]


def test_stage_1_tells_the_student_beside_the_teacher(data, tmp_path):
    more = ["--tower", str(data / "base"), "--max_steps", "4"]
    adapt_text_encoder.main(flags(data, tmp_path / "o", *more, *retention(data, 1)))
    teacher = load_tower(str(data / "base"))
    args = TowerArguments(tower="t", captions=["c"], output_dir="o", use_cpu=True)
    first = probe(data, teacher).measure(teacher, args)
    told = history(tmp_path / "o", 4)
    assert [entry["step"] for entry in told] == [0, 3, 4]
    assert {name: told[0][name] for name in first} == pytest.approx(first)
