"""Each data set in a file as it is published: columns, types, nesting, encodings."""

import io
import json
import tarfile
from pathlib import Path

import datasets
import numpy as np
import pytest

from tests.tiny_tower import encoded, picture
from vision_tower.edit_formats import EDIT_FORMATS
from vision_tower.edits import Edits
from vision_tower.tables import recognise


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def pictures():
    """Two encoded pictures: source, edited."""
    return [encoded(picture(np.random.default_rng(seed))) for seed in (0, 1)]


def struct(data):
    return {"bytes": data, "path": None}


def check(edit, pictures, texts):
    assert [encoded(edit.source_image), encoded(edit.edited_image)] == pictures
    assert (edit.instruction, edit.source_caption, edit.edited_caption) == texts


TEXTS = ("add a hat", "a dog", "a dog in a hat")
NAMES = {  # in the order of EditColumns, as the cards of the data sets have them
    "UltraEdit": "source_image edited_image edit_prompt source_caption target_caption",
    "InstructPix2Pix": "original_image edited_image edit_prompt original_prompt edited_prompt",
    "AnyEdit": "image_file edited_file edit_instruction input output",
}


@pytest.mark.parametrize("name", NAMES)
def test_parquet_with_captions(name, pictures, tmp_path):
    values = [*map(struct, pictures), *TEXTS]
    more = {"mask_image": None, "clip_sim_dir": 0.3, "edit_type": "add"}
    row = dict(zip(NAMES[name].split(), values, strict=True)) | more
    datasets.Dataset.from_list([row]).to_parquet(tmp_path / "a.parquet")
    edits = Edits([tmp_path / "a.parquet"])
    assert len(edits) == 1
    check(edits[0], pictures, TEXTS)
    assert edits[0].kind == "add"


def test_hq_edits_inverse_is_no_pair_of_its_own(pictures, tmp_path):
    row = {
        "input_image": struct(pictures[0]),
        "output_image": struct(pictures[1]),
        **{"edit": "add a hat", "inverse_edit": "take it off", "input": "a dog"},
        "output": "a dog in a hat",
    }
    datasets.Dataset.from_list([row]).to_parquet(tmp_path / "a.parquet")
    [edit] = Edits([tmp_path / "a.parquet"])
    check(edit, pictures, TEXTS)


def sidecar(file, number=1):
    rows = [
        {"id": f"{file.name}:{row}", "source_caption": TEXTS[1], "target_caption": TEXTS[2]}
        for row in range(number)
    ]
    path = file.parent / "captions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [path]


WITHOUT_CAPTIONS = {
    "MagicBrush": {
        **{"img_id": "1", "turn_index": 1, "source_img": 0, "mask_img": 0, "target_img": 1},
        "instruction": "add a hat",
    },
    "OmniEdit": {
        **{"omni_edit_id": "x", "src_img": 0, "edited_img": 1, "task": "addition", "width": 1},
        "edited_prompt_list": ["add a hat", "put a hat on the dog"],
    },
}


@pytest.mark.parametrize("name", WITHOUT_CAPTIONS)
def test_parquet_without_captions_takes_them_from_a_sidecar(name, pictures, tmp_path):
    row = {
        key: struct(pictures[value]) if key.endswith("img") else value
        for key, value in WITHOUT_CAPTIONS[name].items()
    }
    file = tmp_path / "a.parquet"
    datasets.Dataset.from_list([row, row]).to_parquet(file)
    with pytest.raises(
        ValueError, match=r"a\.parquet row 0.*2 of 2 rows.*captions in a file of their own"
    ):
        Edits([file])
    with pytest.raises(ValueError, match=r"a\.parquet row 1.*1 of 2 rows"):
        Edits([file], captions=sidecar(file))
    edits = Edits([file], captions=sidecar(file, 2))
    check(edits[1], pictures, TEXTS)


def test_pairs_that_wait_for_captions_can_be_read(pictures, tmp_path):
    row = {"source_img": struct(pictures[0]), "target_img": struct(pictures[1])}
    for name in ("a", "b"):
        rows = [{**row, "instruction": f"{name}{number}"} for number in range(2)]
        datasets.Dataset.from_list(rows).to_parquet(tmp_path / f"{name}.parquet")
    edits = Edits([tmp_path / "?.parquet"], captions_required=False)
    assert edits.ids() == ["a.parquet:0", "a.parquet:1", "b.parquet:0", "b.parquet:1"]
    check(edits[3], pictures, ("b1", "", ""))


JSON = {
    "SEED-Data-Edit": {
        **{"source_image": "s.png", "target_image": "t.png", "instruction": "add a hat"},
        "source_image_caption": None,
    },
    "ImgEdit": {"input_images": ["s.png"], "output_images": ["t.png"], "prompt": "add a hat"},
    "Pico-Banana": {
        "open_image_input_url": "https://x/s.png",
        **{"local_input_image": "s.png", "output_image": "t.png", "text": "add a hat"},
        **{"summarized_text": "hat", "edit_type": "Add a new object"},
    },
    "GPT-Image-Edit": {
        "image": ["s.png", "t.png"],
        "conversations": [
            {"from": "human", "value": "<image>\nadd a hat"},
            {"from": "gpt", "value": "<image>"},
        ],
    },
}


@pytest.mark.parametrize("lines", [True, False])
@pytest.mark.parametrize("name", JSON)
def test_json_with_paths(name, lines, pictures, tmp_path):
    for path, data in zip(("s.png", "t.png"), pictures, strict=True):
        (tmp_path / path).write_bytes(data)
    file = tmp_path / ("a.jsonl" if lines else "a.json")
    file.write_text(json.dumps(JSON[name]) + "\n" if lines else json.dumps([JSON[name]]))
    edits = Edits([file], captions=sidecar(file))
    check(edits[0], pictures, TEXTS)


def test_json_of_anyedit(pictures, tmp_path):
    for path, data in zip(("s.png", "t.png"), pictures, strict=True):
        (tmp_path / path).write_bytes(data)
    row = {
        **{"edit": "add a hat", "edited object": "hat", "input": "a dog", "edit_type": "add"},
        **{"output": "a dog in a hat", "visual_input": None},
        **{"image_file": "s.png", "edited_file": "t.png"},
    }
    (tmp_path / "a.json").write_text(json.dumps([row]))
    check(Edits([tmp_path / "a.json"])[0], pictures, TEXTS)


def test_dialogues_of_imgedit_are_one_edit_a_turn(pictures, tmp_path):
    for path, data in zip(("s.png", "t.png"), pictures, strict=True):
        (tmp_path / path).write_bytes(data)
    turn = JSON["ImgEdit"]
    back = {**turn, "input_images": ["t.png"], "output_images": ["s.png"], "prompt": "take it off"}
    file = tmp_path / "a.parquet"
    datasets.Dataset.from_list([{"data": [turn, back]}, {"data": [turn]}]).to_parquet(file)
    edits = Edits([file], captions=sidecar(file, 3))
    assert [edit.instruction for edit in edits] == ["add a hat", "take it off", "add a hat"]
    check(edits[1], pictures[::-1], ("take it off", *TEXTS[1:]))


def write_tar(file, members):
    with tarfile.open(file, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file


def test_webdataset_of_tripletdata(pictures, tmp_path):
    members = {
        f"00{row}.{extension}": data
        for row in range(2)
        for extension, data in (
            ("image", pictures[0]),
            ("neg_image", pictures[1]),
            ("caption", "a dög".encode()),
            ("neg_caption", b"a dog in a hat"),
        )
    }
    edits = Edits([write_tar(tmp_path / "shard-0.tar", members)])
    assert len(edits) == 2
    check(edits[1], pictures, ("", "a dög", "a dog in a hat"))


@pytest.mark.parametrize(
    ("name", "told"), [("../0.image", "points out of it"), ("0.pkl", "is a pickle")]
)
def test_a_tar_that_could_do_harm_is_refused(name, told, tmp_path):
    file = write_tar(tmp_path / "a.tar", {name: b"x"})
    with pytest.raises(ValueError, match=rf"a\.tar: the member '{name}' {told}"):
        Edits([file])


def test_folders_of_instruct_pix2pix(pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = Path("data/clip-filtered")
    folder = root / "0000000"
    folder.mkdir(parents=True)
    (root / "seeds.json").write_text(json.dumps([["0000000", ["11", "12"]]]))
    prompt = {"edit": TEXTS[0], "input": TEXTS[1], "output": TEXTS[2]}
    (folder / "prompt.json").write_text(json.dumps(prompt))
    for seed in ("11", "12"):
        for side, data in enumerate(pictures):
            (folder / f"{seed}_{side}.jpg").write_bytes(data)
    for name in (root, root.resolve()):
        edits = Edits([name])
        assert len(edits) == 2
        check(edits[1], pictures, TEXTS)


def test_a_path_out_of_the_folder_is_refused(tmp_path):
    (tmp_path / "a.json").write_text(
        json.dumps([{**JSON["SEED-Data-Edit"], "source_image": "../s"}])
    )
    edits = Edits([tmp_path / "a.json"], sidecar(tmp_path / "a.json"))
    with pytest.raises(ValueError, match=r"a\.json row 0, source_image.*leads out of"):
        edits[0]


def test_no_format_is_taken_for_another():
    """A table with exactly the columns of one is not recognised as one that comes before it."""
    for name, columns in EDIT_FORMATS.items():
        assert recognise(columns.names, EDIT_FORMATS, "here") is columns, name


def test_gpt_image_edit_needs_two_pictures(tmp_path):
    row = {**JSON["GPT-Image-Edit"], "image": ["s.png"]}
    file = tmp_path / "a.json"
    file.write_text(json.dumps([row]))
    with pytest.raises(ValueError, match=r"a\.json row 0: .*image holds one picture"):
        Edits([file], captions=sidecar(file))[0]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"input": " \n"}, r"row 1: a caption is empty \(1 of 2"),
        ({"output": None}, r"row 1: a caption is empty \(1 of 2"),
        ({"input": 5}, "the column input holds .*not text"),
    ],
)
def test_captions_that_are_none_are_told_at_once(changes, told, tmp_path):
    row = {"edit": "e", "input": "a", "output": "b", "image_file": "s.png", "edited_file": "t.png"}
    (tmp_path / "a.json").write_text(json.dumps([row, row | changes]))
    with pytest.raises(ValueError, match=rf"a\.json.*{told}"):
        Edits([tmp_path / "a.json"])


def test_captions_must_say_whose_they_are(tmp_path):
    files = [tmp_path / name / "a.json" for name in ("x", "y")]
    for file in files:
        file.parent.mkdir()
        file.write_text(json.dumps([JSON["ImgEdit"]]))
    captions = sidecar(files[0])
    with pytest.raises(ValueError, match=r"2 files are named a\.json.*Rename"):
        Edits(files, captions)
    with pytest.raises(ValueError, match=r"none of these files has a row 'a\.json:1'"):
        Edits(files[:1], sidecar(files[0], 2))
    captions[0].write_text(sidecar(files[0])[0].read_text() * 2)
    with pytest.raises(ValueError, match=r"line 2: the id 'a\.json:0' comes twice"):
        Edits(files[:1], captions)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "line 1"),
        ('{"id": "a:0", "source_caption": "x"}', "KeyError"),
        ('{"id": "a:0", "source_caption": "x", "target_caption": " "}', "caption is empty"),
    ],
)
def test_a_broken_line_of_captions_is_named(line, told, tmp_path):
    (tmp_path / "c.jsonl").write_text(line)
    with pytest.raises(ValueError, match=rf"c\.jsonl line 1.*{told}" if told != "line 1" else told):
        Edits([], captions=[tmp_path / "c.jsonl"])
