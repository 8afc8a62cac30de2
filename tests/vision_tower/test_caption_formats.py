"""Each data set in a file as it is published: columns, types, nesting, encodings."""

import csv
import io
import json
import tarfile
from pathlib import Path

import datasets
import pytest

from tests.tiny_tower import stored_captions
from vision_tower.caption_formats import CAPTION_FORMATS
from vision_tower.captions import Captions
from vision_tower.tables import recognise

LONG = "A dög on a mat. It sleeps, and nothing else is there."
SHORT = "dog mat stock photo"


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def check(file, root, *, short, columns=None):
    (root / "a.jpg").touch()
    [caption] = stored_captions([file], root, columns)
    assert caption.image == root / "a.jpg"
    assert (caption.short, caption.long) == (short, LONG)


JSON_LINES = {
    "DOCCI": {
        **{"split": "train", "image_file": "a.jpg", "example_id": "a"},
        "description": LONG,
    },
    "IIW": {
        **{
            "image/key": "aar_test_04600",
            "image/url": "https://x/a",
            "IIW": LONG,
            "IIW-P5B": SHORT,
        },
        **{"objects": [{"label": "dog"}], "image": "a.jpg"},
        "iiw-human-sxs-gpt4v": {"metrics/Comprehensiveness": "IIW is better"},
    },
    "DenseFusion": {"image_id": "1", "url": "https://x/a", "caption": LONG, "image": "a.jpg"},
}


@pytest.mark.parametrize("name", JSON_LINES)
def test_json_lines(name, tmp_path):
    file = tmp_path / "a.jsonlines"
    file.write_text(json.dumps(JSON_LINES[name]) + "\n", encoding="utf-8")
    check(file, tmp_path, short="A dög on a mat")


PARQUET = {
    "PixelProse": {
        **{"uid": "1", "url": "https://x/a", "vlm_caption": LONG, "original_caption": SHORT},
        **{"vlm_model": "gemini", "image": "a.jpg"},
    },
    "Recap-DataComp": {
        **{"url": "https://x/a", "re_caption": LONG, "org_caption": SHORT, "re_clip_score": 0.3},
        "image": "a.jpg",
    },
}


@pytest.mark.parametrize("name", PARQUET)
def test_parquet(name, tmp_path):
    datasets.Dataset.from_list([PARQUET[name]]).to_parquet(tmp_path / "a.parquet")
    check(tmp_path / "a.parquet", tmp_path, short=SHORT)


def test_csv_of_dreamlip(tmp_path):
    names = [
        "raw_caption",
        *(f"{n}{m}_captions" for m in ("IB", "SV", "LLA") for n in ("short", "long")),
    ]
    texts = [SHORT, *(LONG if "longSV" in name else "other" for name in names[1:])]
    with (tmp_path / "a.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["Image Path", *names], ["a.jpg", *texts]])
    check(tmp_path / "a.csv", tmp_path, short=SHORT)


def test_csv_of_long_dci_has_tabs(tmp_path):
    (tmp_path / "dci_long.csv").write_text(f"filepath\ttitle\na.jpg\t{LONG}\n", encoding="utf-8")
    check(tmp_path / "dci_long.csv", tmp_path, short="A dög on a mat")


def test_folder_of_dci_is_a_json_a_picture(tmp_path):
    folder = tmp_path / "complete"
    folder.mkdir()
    row = {"image": "a.jpg", "short_caption": SHORT, "extra_caption": LONG, "mask_keys": ["1"]}
    row |= {"mask_data": {"1": {"label": "dog", "bounds": [[0, 1]]}}, "summaries": {"base": ["x"]}}
    (folder / "1.json").write_text(json.dumps(row))
    check(folder, tmp_path, short=SHORT)


def test_other_json_files_in_a_folder_are_told(tmp_path):
    (tmp_path / "a.json").write_text("[]")
    with pytest.raises(ValueError, match=r"a\.json: .*each is DCI's"):
        stored_captions([tmp_path], "")


def test_folder_of_urban1k(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = Path("data/Urban1k")
    for name in ("image", "caption"):
        (root / name).mkdir(parents=True)
    (root / "caption" / "001.txt").write_text(f"{LONG}\nmore", encoding="utf-8")
    with pytest.raises(FileNotFoundError, match=r"Urban1k row 0: .*001\.jpg"):
        stored_captions([root], "elsewhere")
    (root / "image" / "001.jpg").touch()
    [caption] = stored_captions([root], "elsewhere")
    assert caption.image == root / "image" / "001.jpg"
    assert (caption.short, caption.long) == ("A dög on a mat", LONG)


def test_tar_with_captions(tmp_path):
    file = tmp_path / "0.tar"
    with tarfile.open(file, "w") as archive:
        for name, data in (("0.image", b"PNG"), ("0.caption", LONG.encode())):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    [caption] = stored_captions([file], "")
    assert (caption.image, caption.short, caption.long) == (b"PNG", "A dög on a mat", LONG)


def test_csv_is_text(tmp_path):
    (tmp_path / "a.csv").write_text("filepath,title\n0001,None\n", encoding="utf-8")
    caption = Captions([tmp_path / "a.csv"]).stored(0)
    assert (caption.image, caption.long) == (tmp_path / "0001", "None")


def test_a_table_of_ones_own_by_a_map_of_columns(tmp_path):
    row = {"file": "a.jpg", "detail": LONG, "alt": SHORT}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    own = {"image": "file", "long": "detail"}
    check(tmp_path / "a.jsonl", tmp_path, short="A dög on a mat", columns=own)
    check(tmp_path / "a.jsonl", tmp_path, short=SHORT, columns=own | {"short": "alt"})
    with pytest.raises(ValueError, match=r"a\.jsonl has no column picture: there are file, detail"):
        stored_captions([tmp_path / "a.jsonl"], "", {"image": "picture", "long": "detail"})
    for wrong in ({"image": "file"}, own | {"alt": "alt"}):
        with pytest.raises(ValueError, match=r"not understood: give those of image and long"):
            stored_captions([tmp_path / "a.jsonl"], "", wrong)


def test_pictures_may_be_in_the_table(tmp_path):
    row = {"image": {"bytes": b"PNG", "path": None}, "caption": LONG}
    datasets.Dataset.from_list([row]).to_parquet(tmp_path / "a.parquet")
    [caption] = stored_captions([tmp_path / "a.parquet"], "")
    assert caption.image == b"PNG"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"caption": None}, "the caption is empty"),
        ({"caption": " "}, "the caption is empty"),
        ({"image": None}, "there is no picture"),
        ({"image": "../a.jpg"}, "leads out of"),
    ],
)
def test_a_broken_row_is_named(changes, told, tmp_path):
    good = {"image": "a.jpg", "caption": LONG}
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(r) + "\n" for r in (good, good | changes)))
    with pytest.raises(ValueError, match=rf"a\.jsonl row 1: .*{told}.*(?:Mend|Remove|remove)"):
        stored_captions([tmp_path / "a.jsonl"], tmp_path)


def test_paths_may_be_absolute_in_the_root_and_anywhere_where_no_picture_is_read(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps({"image": str(tmp_path / "x" / "a.jpg"), "caption": LONG}))
    assert Captions([file], "elsewhere").texts(0).long == LONG
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a.jpg").touch()
    [caption] = stored_captions([file], tmp_path)
    assert caption.image == tmp_path / "x" / "a.jpg"
    with pytest.raises(ValueError, match="leads out of"):
        stored_captions([file], tmp_path / "y")


def test_no_format_is_taken_for_another():
    for name, columns in CAPTION_FORMATS.items():
        assert recognise(columns.names, CAPTION_FORMATS, "here") is columns, name
