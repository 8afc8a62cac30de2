"""Training data of the miniature, read back by the loaders that read the real data."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet
import pytest
from PIL import Image

from eval.tower.edits import Edits as EditsBenchmark
from eval.tower.edits import read_pairs
from eval.tower.retrieval import Retrieval
from mllm.conversation_files import Conversations
from mllm.conversations import Conversation
from scripts.miniature import write_data
from scripts.miniature.language import BRIEF_REQUESTS, DETAIL_REQUEST
from scripts.miniature.world import EDITS
from tests.scripts.miniature import oracle
from tests.scripts.miniature.conftest import SEED, TINY, Written
from tests.scripts.miniature.test_questions import check_answer
from tests.tiny_tower import stored_captions
from vision_tower.captions import StoredCaption
from vision_tower.edits import Edits

# Columns of BleachNltk/UltraEdit that the stages and benchmarks read.
REQUESTS = (DETAIL_REQUEST, *BRIEF_REQUESTS)
ULTRAEDIT = {"source_image", "edited_image", "edit_prompt", "source_caption", "target_caption"}


def digests(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }


def test_files_are_a_function_of_the_seed_alone(written: Written, tmp_path: Path) -> None:
    """Also with worker processes instead of a thread, and in another folder."""
    write_data.write_data(tmp_path, SEED, TINY)
    assert digests(tmp_path) == digests(written.root)


def test_chunks_cover_every_row_once() -> None:
    chunks = write_data._chunks(2 * write_data.CHUNK + 7)
    rows = [row for start, count in chunks for row in range(start, start + count)]
    assert rows == list(range(2 * write_data.CHUNK + 7))


def test_a_finished_folder_is_left_as_it_is(
    written: Written, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = digests(written.root)
    monkeypatch.setattr(write_data, "Sizes", lambda: TINY)
    monkeypatch.setattr("sys.argv", ["write_data.py", str(written.root), "--seed", str(SEED)])
    write_data.main()
    assert "nothing to write" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["write_data.py", str(written.root), "--seed", str(SEED + 1)])
    with pytest.raises(SystemExit, match="another seed or size"):
        write_data.main()
    assert digests(written.root) == before


@pytest.mark.parametrize(
    ("files", "number", "held_out"),
    [("train-*.parquet", TINY.edit_pairs, False), ("heldout.parquet", 2 * len(EDITS), True)],
)
def test_edit_pairs_show_what_they_say(
    written: Written, files: str, number: int, held_out: bool
) -> None:
    edits = Edits([written.root / "edits" / files])
    assert len(edits) == number
    for row in range(number):
        edit = edits[row]
        source = written.data.scene_of(edit.source_image)
        target = written.data.scene_of(edit.edited_image)
        assert source != target
        assert source.held_out == target.held_out == held_out
        assert edit.source_caption != edit.edited_caption
        assert edit.instruction.endswith(".")


def test_edit_pairs_have_ultraedits_columns_and_their_kind(written: Written) -> None:
    [file] = (written.root / "edits").glob("heldout*.parquet")
    table = pyarrow.parquet.read_table(file)
    assert set(table.column_names) >= ULTRAEDIT
    assert set(table["source_image"][0].as_py()) == {"bytes", "path"}
    pairs = read_pairs(file, Edits([file]))
    assert [pair.kind for pair in pairs] == list(EDITS) * 2
    assert EditsBenchmark().files(written.root / "edits") == [file]


@pytest.mark.parametrize(
    ("file", "number", "held_out"),
    [
        ("share-captioner.json", TINY.pictures, False),
        ("heldout.json", TINY.held_out_pictures, True),
    ],
)
def test_long_captions_describe_their_pictures(
    written: Written, file: str, number: int, held_out: bool
) -> None:
    folder = written.root / "captions"
    captions = stored_captions([folder / file])
    assert len(captions) == len({caption.image for caption in captions}) == number
    for caption in captions:
        scene = shown(written, caption)
        assert oracle.read_long(caption.long) == scene
        assert scene.held_out is held_out
        assert caption.short == caption.long.split(". ")[0]


def shown(written: Written, row: StoredCaption | Conversation) -> oracle.Scene:
    [image] = row.pictures if isinstance(row, Conversation) else [row.image]
    with Image.open(image) as picture:
        return written.data.scene_of(picture)


def test_the_retrieval_benchmark_finds_its_rows(written: Written) -> None:
    folder = written.root / "captions"
    assert Retrieval().files(folder) == [folder / "heldout.json"]


def conversations(written: Written, name: str) -> Conversations:
    file = written.root / "conversations" / name
    return Conversations([file], written.root / "captions" / "images")


def spoken(row: Conversation) -> list[str]:
    """What is said in turn, without the picture's place."""
    contents = [message["content"] for message in row.messages]
    return [said if isinstance(said, str) else said[-1]["text"] for said in contents]


def test_pretraining_rows_are_true_descriptions(written: Written) -> None:
    rows = conversations(written, "pretrain.json")
    assert len(rows) == TINY.pictures
    for row in rows:
        request, description = spoken(row)
        assert request in BRIEF_REQUESTS
        assert oracle.read_brief(description) == shown(written, row)


def test_instructions_are_answered_truly(written: Written) -> None:
    rows = conversations(written, "finetune.json")
    assert len(rows) == TINY.pictures
    for row in rows:
        turns = list(zip(spoken(row)[::2], spoken(row)[1::2], strict=True))
        if not row.pictures:
            text, _, question = turns[0][0].partition("\n")
            scene = oracle.read_brief(text)
            turns[0] = (question, turns[0][1])
        else:
            scene = shown(written, row)
        assert not scene.held_out
        if turns[0][0] in REQUESTS:
            assert oracle.read_brief(turns[0][1]) == scene
            continue
        for question, answer in turns:
            check_answer(scene, question, answer)


def test_instructions_hold_several_turns_descriptions_and_rows_without_a_picture(
    tmp_path: Path,
) -> None:
    """Over more rows than the tiny folder has: every kind that the collator must cope with."""
    sizes = replace(TINY, pictures=150)
    write_data.write_data(tmp_path, SEED, sizes)
    rows = json.loads((tmp_path / "conversations" / "finetune.json").read_text())
    text_only = [row for row in rows if "image" not in row]
    first = [row["conversations"][0]["value"].removeprefix("<image>\n") for row in rows]
    several = [row for row in rows if len(row["conversations"]) >= 8]
    assert len(text_only) / len(rows) == pytest.approx(0.10, abs=0.08)
    assert sum(request in REQUESTS for request in first) / len(rows) == pytest.approx(
        0.10, abs=0.08
    )
    assert len(several) > len(rows) / 2
    assert all("<image>" not in row["conversations"][0]["value"] for row in text_only)


def test_no_held_out_scene_is_drawn_for_training(written: Written) -> None:
    folder = written.root / "captions"
    training = {shown(written, row) for row in conversations(written, "pretrain.json")}
    edits = Edits([written.root / "edits" / "train-*.parquet"])
    for row in range(len(edits)):
        training |= {
            written.data.scene_of(edits[row].source_image),
            written.data.scene_of(edits[row].edited_image),
        }
    held_out = {shown(written, row) for row in stored_captions([folder / "heldout.json"])}
    held_out |= set(written.benchmarks.drawn)
    assert not training & held_out
