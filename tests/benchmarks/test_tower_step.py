"""On a CLIP of a few thousand parameters: the result is whole, the contenders do the same work."""

import json

import open_clip
import pytest

from benchmarks.tower_step import main
from tests.tiny_tower import TEXT, VISION

PARTS = ("short", "long", "texts", "long_texts", "micro_batches")


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tower_step")
    model_cfg = {"embed_dim": 12, "vision_cfg": VISION, "text_cfg": TEXT}
    (folder / "tiny-for-speed.json").write_text(json.dumps(model_cfg))
    open_clip.add_model_config(folder / "tiny-for-speed.json")
    main(
        [
            *("--architecture", "tiny-for-speed", "--device", "cpu", "--batch_size", "8"),
            *("--steps", "1", "--repeats", "3", "--micro_batches", "2"),
            *("--loss_batches", "16", "--output", str(folder / "result.json")),
        ]
    )
    return json.loads((folder / "result.json").read_text())


def test_a_result_says_how_it_was_got_and_how_sure_it_is(result):
    assert {"command", "commit", "machine", "versions", "settings"} < result.keys()
    assert set(result["machine"]) == {"processor", "cores", "threads", "device"}
    for part in PARTS:
        for figures in result[part].values():
            for told in (figures["samples_per_second"], figures["speedup"]):
                assert 0 < told["min"] <= told["median"] <= told["max"]
        assert next(iter(result[part].values()))["speedup"] == {"median": 1, "min": 1, "max": 1}
    assert set(result["loss_memory"]) == {"fovea", "open_clip"}


def test_stage_2_and_open_clip_train_do_the_same_work(result):
    """The same loss of the same batch and weights, and again after steps of the own optimizer."""
    losses = result["first_losses"]
    theirs = losses["open_clip_train"]
    assert len(theirs) == 3
    assert len(set(theirs)) == 3, "nothing was learned"
    for name in ("fovea", "fovea, trimmed"):
        assert losses[name] == pytest.approx(theirs, rel=1e-5), name
