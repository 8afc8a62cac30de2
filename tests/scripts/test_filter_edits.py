"""Filtering edit pairs: the figures, what they decide, leakage, kills, and what stage 2 reads."""

from __future__ import annotations

import json
import logging
from argparse import Namespace
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch

from scripts import edit_scores, filter_edits
from scripts.edit_scores import SCORES, file_names
from scripts.filter_edits import failed
from tests.tiny_tower import edit_row, encoded, picture, write_tower
from vision_tower.edits import Edits
from vision_tower.images import decode
from vision_tower.towers import load_tower

ROWS = 7
ANY = ("--min_caption", -2, "--min_direction", -2, "--min_image", -2, "--max_held_out", 2)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture(scope="module")
def tower(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tower(tmp_path_factory.mktemp("tower"))


@pytest.fixture
def rows() -> list[dict]:
    rng = np.random.default_rng(3)
    return [edit_row(rng) for _ in range(ROWS)]


@pytest.fixture
def edits(tmp_path: Path, rows: list[dict]) -> Path:
    return write(tmp_path / "a.parquet", rows)


def write(file: Path, rows: list[dict]) -> Path:
    datasets.Dataset.from_list(rows).to_parquet(file)
    return file


def run(output: Path, edits: Path, *more: object) -> None:
    common = ("--workers", 0, "--batch_size", 3)
    filter_edits.main([str(word) for word in (output, "--edits", edits, *common, *more)])


def refusal(capsys: pytest.CaptureFixture[str], output: Path, edits: Path, *more: object) -> str:
    with pytest.raises(SystemExit):
        run(output, edits, *more)
    return capsys.readouterr().err


def scores(output: Path) -> dict[str, dict]:
    [file] = output.glob("scores-*.jsonl")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert len({row["id"] for row in rows}) == len(rows)
    return {row["id"]: row for row in rows}


def kept(output: Path) -> Edits:
    return Edits([output / "kept-*.parquet"])


def by_numpy(tower: Path, row: dict) -> dict[str, float]:
    """The four cosines of one pair, from its features one by one."""
    opened = load_tower(str(tower))

    def feature(column: str) -> np.ndarray:
        with torch.no_grad():
            if column.endswith("image"):
                image = opened.preprocess(decode(row[column]["bytes"], "here"))
                found = opened.encode_image(image[None])[0].double().numpy()
            else:
                found = opened.encode_text(opened.tokenizer([row[column]]))[0].double().numpy()
        return found / np.linalg.norm(found)

    def cosine(one: np.ndarray, other: np.ndarray) -> float:
        return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))

    source, edited = feature("source_image"), feature("edited_image")
    before, after = feature("source_caption"), feature("target_caption")
    return {
        "clip_sim_source": cosine(source, before),
        "clip_sim_target": cosine(edited, after),
        "clip_sim_dir": cosine(edited - source, after - before),
        "clip_sim_image": cosine(source, edited),
    }


def test_scores_are_those_of_each_pair_alone(
    tower: Path, edits: Path, rows: list[dict], tmp_path: Path
) -> None:
    run(tmp_path / "out", edits, "--tower", tower, *ANY)
    found = scores(tmp_path / "out")
    assert list(found) == [f"a.parquet:{row}" for row in range(ROWS)]
    for row in range(ROWS):
        for name, value in by_numpy(tower, rows[row]).items():
            assert found[f"a.parquet:{row}"][name] == pytest.approx(value, abs=2e-5), name
        assert -0.3 < found[f"a.parquet:{row}"]["ssim"] < 0.3  # pictures of noise
    assert len(kept(tmp_path / "out")) == ROWS


def test_what_passes_is_read_by_stage_2_and_other_thresholds_need_no_tower(
    tower: Path,
    edits: Path,
    rows: list[dict],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    run(tmp_path / "out", edits, "--tower", tower, *ANY)
    monkeypatch.setattr(filter_edits, "load_tower", lambda _: pytest.fail("opened again"))
    found = [row["clip_sim_dir"] for row in scores(tmp_path / "out").values()]
    bound = sorted(found)[3]
    caplog.set_level(logging.INFO)
    run(tmp_path / "out", edits, "--tower", tower, *ANY, "--min_direction", bound)
    expected = [row for row, value in zip(rows, found, strict=True) if value >= bound]
    read = kept(tmp_path / "out")
    assert len(read) == len(expected) == 4
    for pair, row in zip([read.stored(n)[2] for n in range(4)], expected, strict=True):
        assert pair.source_image == row["source_image"]
        assert pair.edited_image == row["edited_image"]
        assert (pair.source_caption, pair.edited_caption, pair.instruction) == (
            row["source_caption"],
            row["target_caption"],
            row["edit_prompt"],
        )
    assert "4 of 7 pairs are kept." in caplog.messages
    assert f"3 fail --min_direction {bound}" in caplog.messages
    assert not list((tmp_path / "out").glob("*.partial"))


PASSING = {**dict.fromkeys(SCORES, 0.8), "held_out_sim": 0.9}
DEFAULTS = Namespace(
    min_caption=0.2, min_direction=0.22, min_image=0.75, max_ssim=0.9, max_held_out=0.95
)


@pytest.mark.parametrize(
    ("changes", "reasons"),
    [
        ({}, []),
        ({"clip_sim_source": 0.2, "clip_sim_dir": 0.22, "clip_sim_image": 0.75, "ssim": 0.9}, []),
        ({"clip_sim_target": 0.19}, ["min_caption"]),
        ({"clip_sim_source": 0.19, "clip_sim_dir": 0.21}, ["min_caption", "min_direction"]),
        ({"clip_sim_image": 0.74, "ssim": 0.91}, ["min_image", "max_ssim"]),
        ({"held_out_sim": 0.96}, ["max_held_out"]),
        ({"clip_sim_dir": float("nan")}, ["min_direction"]),
    ],
)
def test_thresholds(changes: dict, reasons: list[str]) -> None:
    assert failed({**PASSING, **changes}, DEFAULTS) == reasons


def test_figures_of_the_data_set_are_taken_as_they_are(
    rows: list[dict], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = [{**row, **dict.fromkeys(SCORES, 0.8), "dinov2_sim": 0.1} for row in rows]
    own[2]["clip_sim_dir"] = 0.1
    run(tmp_path / "out", write(tmp_path / "a.parquet", own))
    assert len(kept(tmp_path / "out")) == ROWS - 1
    assert scores(tmp_path / "out")["a.parquet:2"]["clip_sim_dir"] == 0.1
    own[4]["ssim"] = None
    told = refusal(capsys, tmp_path / "none", write(tmp_path / "b.parquet", own))
    assert "b.parquet:4 has no ssim: give a --tower" in told


def held_out(folder: Path, pictures: dict[str, bytes]) -> tuple[object, ...]:
    """The flags that name a test set of these pictures."""
    folder.mkdir()
    turns = [{"from": "human", "value": "<image>"}, {"from": "gpt", "value": "A ball."}]
    for name, data in pictures.items():
        (folder / name).write_bytes(data)
    found = [{"id": name, "image": name, "conversations": turns} for name in pictures]
    (folder / "heldout.json").write_text(json.dumps(found))
    return "--held_out", folder / "heldout.json", "--image_root", folder


def test_pairs_that_a_test_set_knows_are_dropped(
    tower: Path, edits: Path, rows: list[dict], tmp_path: Path
) -> None:
    known = rows[5]["edited_image"]["bytes"]
    flags = held_out(tmp_path / "test", {"other name.png": known})
    run(tmp_path / "out", edits, "--tower", tower, *flags, *ANY, "--max_held_out", 0.99999)
    found = {told_by: row["held_out_sim"] for told_by, row in scores(tmp_path / "out").items()}
    assert found["a.parquet:5"] == pytest.approx(1, abs=1e-5)
    assert max(value for told_by, value in found.items() if told_by != "a.parquet:5") < 0.9999
    assert len(kept(tmp_path / "out")) == ROWS - 1


def test_a_common_file_name_is_leakage_and_paths_and_sidecars_are_written_out(
    tower: Path, tmp_path: Path
) -> None:
    """Open Images' and COCO's pictures have names of their own, in whatever set and size."""
    for seed, name in enumerate(("s.png", "t.png", "000009.png")):
        (tmp_path / name).write_bytes(encoded(picture(np.random.default_rng(seed))))
    pairs = [
        {"source_image": name, "target_image": "t.png", "instruction": "add"}
        for name in ("s.png", "000009.png")
    ]
    (tmp_path / "seed.json").write_text(json.dumps(pairs))
    captions = [
        {"id": f"seed.json:{row}", "source_caption": f"a {row}", "target_caption": f"b {row}"}
        for row in range(2)
    ]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in captions))
    other = encoded(picture(np.random.default_rng(9)))
    flags = held_out(tmp_path / "test", {"000009.png": other})
    more = ("--captions", tmp_path / "c.jsonl", "--tower", tower, *flags, *ANY)
    run(tmp_path / "out", tmp_path / "seed.json", *more, "--max_held_out", 0.99999)
    assert scores(tmp_path / "out")["seed.json:1"]["held_out_sim"] == 1
    assert scores(tmp_path / "out")["seed.json:0"]["held_out_sim"] < 0.9999
    [pair] = kept(tmp_path / "out")
    assert encoded(pair.source_image) == (tmp_path / "s.png").read_bytes()
    assert (pair.source_caption, pair.edited_caption) == ("a 0", "b 0")


def test_a_pair_that_cannot_be_read_is_told_and_left_out(
    tower: Path, rows: list[dict], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    rows[2]["edited_image"] = {"bytes": rows[2]["edited_image"]["bytes"][:60], "path": None}
    small = encoded(picture(np.random.default_rng(0)).resize((6, 6)))
    rows[4]["source_image"] = rows[4]["edited_image"] = {"bytes": small, "path": None}
    run(tmp_path / "out", write(tmp_path / "a.parquet", rows), "--tower", tower, *ANY)
    found = scores(tmp_path / "out")
    assert set(found) == {f"a.parquet:{row}" for row in range(ROWS)}
    assert "row 2, edited_image: the picture cannot be decoded" in found["a.parquet:2"]["problem"]
    told = found["a.parquet:4"]["problem"]
    assert "row 4: pictures of (3, 6, 6) and (3, 6, 6) have no SSIM" in told
    sound = [row for row in found.values() if "problem" not in row]
    expected = [by_numpy(tower, rows[row]) for row in (0, 1, 3, 5, 6)]
    for row, told_by in zip(sound, expected, strict=True):
        assert {name: row[name] for name in told_by} == pytest.approx(told_by, abs=1e-5)
    assert len(kept(tmp_path / "out")) == ROWS - 2
    assert "2 cannot be read" in caplog.text


def test_names_of_files() -> None:
    assert file_names({"bytes": b"x", "path": "coco/1.jpg"}) == {"1.jpg"}
    assert file_names("coco/1.jpg") == file_names(Path("/a/1.jpg")) == {"1.jpg"}
    assert (
        file_names(b"x") == file_names(None) == file_names({"bytes": b"x", "path": None}) == set()
    )


@pytest.mark.parametrize("cut", [0, 5])
def test_a_killed_run_goes_on(
    tower: Path, edits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: int
) -> None:
    run(tmp_path / "whole", edits, "--tower", tower, *ANY)
    prepared: list[int] = []
    read = edit_scores.PreparedPairs.__getitem__

    def stopping(self: edit_scores.PreparedPairs, index: int) -> edit_scores.Prepared:
        prepared.append(self.rows[index])
        if len(prepared) == 5:
            raise KeyboardInterrupt
        return read(self, index)

    monkeypatch.setattr(edit_scores.PreparedPairs, "__getitem__", stopping)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "out", edits, "--tower", tower, *ANY)
    [file] = (tmp_path / "out").glob("scores-*.jsonl")
    file.write_bytes(file.read_bytes()[: -cut or None])
    prepared = [-1] * 5
    run(tmp_path / "out", edits, "--tower", tower, *ANY)
    assert prepared[5:] == list(range(2 if cut else 3, ROWS))
    whole, found = scores(tmp_path / "whole"), scores(tmp_path / "out")
    assert list(found) == list(whole)
    for told_by, row in found.items():  # other batches, other last digits
        assert row == pytest.approx(whole[told_by], abs=3e-6)


def test_shards_are_disjoint(tower: Path, edits: Path, tmp_path: Path) -> None:
    for shard in (0, 1):
        run(tmp_path / "out", edits, "--tower", tower, *ANY, "--shard", shard, "--shards", 2)
    assert len(kept(tmp_path / "out")) == ROWS
    files = sorted((tmp_path / "out").glob("scores-*.jsonl"))
    assert [len(file.read_text().splitlines()) for file in files] == [4, 3]


def test_bad_input_is_told_in_one_message(
    tower: Path,
    edits: Path,
    rows: list[dict],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    run(out, edits, "--tower", tower, *ANY)
    told = refusal(capsys, out, edits, "--tower", tower, *ANY, "--min_image", 2)
    assert "no pair of 00000-of-00001 is kept: choose other thresholds" in told
    assert not list(out.glob("kept-*"))
    assert "made with another tower" in refusal(capsys, out, edits, "--tower", "no/such")
    told = refusal(capsys, tmp_path / "x", edits, "--held_out", "h.json")
    assert "--held_out wants a --tower" in told


def test_pictures_of_two_sizes_are_compared_at_the_sources(
    tower: Path, rows: list[dict], tmp_path: Path
) -> None:
    image = picture(np.random.default_rng(0)).resize((64, 64))
    rows[0]["source_image"] = {"bytes": encoded(image), "path": None}
    rows[0]["edited_image"] = {"bytes": encoded(image.resize((128, 128))), "path": None}
    run(tmp_path / "out", write(tmp_path / "a.parquet", rows), "--tower", tower, *ANY)
    assert scores(tmp_path / "out")["a.parquet:0"]["ssim"] > 0.9
