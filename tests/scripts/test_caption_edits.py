"""Captions for edit pairs: by tiny models, in shards, through kills, and as stage 2 reads them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import datasets
import numpy as np
import pytest
from transformers import AutoTokenizer

from mllm.answerer import Question
from mllm.assemble import assemble
from mllm.chat import Chat
from scripts import caption_edits
from scripts.caption_edits import EDITED_PROMPT, SOURCE_PROMPT, open_language_model
from tests import tiny_llava
from tests.tiny_tower import edit_row, encoded, picture
from vision_tower.edits import Edits

ROWS = 5


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    tower = tiny_llava.write_tower(root / "tower")
    llm = tiny_llava.write_language_model(root / "llm")
    assemble(str(tower), str(llm), root / "mllm", system="")
    return root / "mllm"


@pytest.fixture(scope="module")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tiny_llava.write_language_model(tmp_path_factory.mktemp("llm"))
    tokenizer = AutoTokenizer.from_pretrained(directory)
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['content'] + ' ASSISTANT:' }}{% endfor %}"
    )
    tokenizer.save_pretrained(directory)
    return directory


@pytest.fixture
def edits(tmp_path: Path) -> Path:
    """MagicBrush's columns, which have no captions; the pictures of row n are drawn by 2n, 2n+1."""
    rows = [
        {
            "source_img": struct(2 * row),
            "target_img": struct(2 * row + 1),
            "instruction": f"make ball {row} red",
        }
        for row in range(ROWS)
    ]
    datasets.Dataset.from_list(rows).to_parquet(tmp_path / "brush.parquet")
    return tmp_path / "brush.parquet"


def struct(seed: int) -> dict:
    return {"bytes": encoded(picture(np.random.default_rng(seed))), "path": None}


class Parrot:
    """Says the length of what it was asked; keeps it; fails, or says nothing, on request."""

    def __init__(self, fails_on: str = "never", silent_on: str = "never") -> None:
        self.asked: list[str] = []
        self.fails_on, self.silent_on = fails_on, silent_on

    def answer_batch(self, pairs: Sequence[Question], *, max_new_tokens: int) -> list[str]:
        texts = [text for _, text in pairs]
        if any(self.fails_on in text for text in texts):
            raise ValueError("out of paper")
        self.asked += texts
        said = ["" if self.silent_on in text else f"{len(text)}\n letters" for text in texts]
        return said


def run(output: Path, edits: Path, *more: object) -> None:
    caption_edits.main([str(output), "--edits", str(edits), *map(str, more)])


def parrot(monkeypatch: pytest.MonkeyPatch, **settings: str) -> Parrot:
    """Takes the place of the model."""
    bird = Parrot(**settings)
    monkeypatch.setattr(caption_edits, "open_model", lambda *_: bird)
    return bird


def lines(*files: Path) -> dict[str, tuple[str, str]]:
    rows = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    told = {row["id"]: (row["source_caption"], row["target_caption"]) for row in rows}
    assert len(told) == len(rows)
    return told


def test_shards_are_disjoint_and_stage_2_reads_them(
    edits: Path, llava: Path, tmp_path: Path
) -> None:
    """Every caption is what the model says about that picture alone, asked one at a time."""
    for shard in (0, 1):
        size = ("--shard", shard, "--shards", 2, "--batch_size", 2, "--max_new_tokens", 9)
        run(tmp_path / "out", edits, "--model", llava, *size)
    files = sorted((tmp_path / "out").glob("*.jsonl"))
    assert [file.name for file in files] == [f"captions-0000{n}-of-00002.jsonl" for n in (0, 1)]
    assert [list(lines(file)) for file in files] == [
        [f"brush.parquet:{row}" for row in range(shard, ROWS, 2)] for shard in (0, 1)
    ]
    chat = Chat(llava, device="cpu")
    read = Edits([edits], captions=[tmp_path / "out" / "*.jsonl"])
    for row in range(ROWS):
        pair = read[row]
        source = SOURCE_PROMPT.format(instruction=f"make ball {row} red")
        source = one_line(chat.answer(pair.source_image, source, max_new_tokens=9))
        told = EDITED_PROMPT.format(caption=source, instruction=f"make ball {row} red")
        target = one_line(chat.answer(pair.edited_image, told, max_new_tokens=9))
        assert (pair.source_caption, pair.edited_caption) == (source, target)


def one_line(text: str) -> str:
    return " ".join(text.split())


def test_a_language_model_rewrites_captions_and_opens_no_picture(
    language_model: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    broken = {"bytes": b"no picture", "path": None}
    rows = [
        {**edit_row(rng), "source_image": broken, "edited_image": broken, "target_caption": ""}
        for _ in range(3)
    ]
    file = tmp_path / "a.parquet"
    datasets.Dataset.from_list(rows).to_parquet(file)
    more = ("--language_model", language_model, "--max_new_tokens", 9, "--batch_size", 2)
    run(tmp_path / "out", file, *more)
    model = open_language_model(str(language_model), shard=0)
    found = lines(tmp_path / "out" / "captions-00000-of-00001.jsonl")
    for number, row in enumerate(rows):
        told = EDITED_PROMPT.format(caption=row["source_caption"], instruction=row["edit_prompt"])
        [target] = model.answer_batch([(None, told)], max_new_tokens=9)
        assert found[f"a.parquet:{number}"] == (row["source_caption"], one_line(target))


@pytest.mark.parametrize("cut", [0, 1, 30])
def test_a_killed_run_goes_on_and_asks_nothing_twice(
    edits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: int
) -> None:
    whole = parrot(monkeypatch)
    run(tmp_path / "whole", edits, "--model", "m", "--batch_size", 2)
    assert len(whole.asked) == 2 * ROWS
    first = parrot(monkeypatch, fails_on="ball 2")
    with pytest.raises(
        RuntimeError, match=r"rows brush\.parquet:2, brush\.parquet:3 .*out of paper"
    ):
        run(tmp_path / "out", edits, "--model", "m", "--batch_size", 2)
    path = tmp_path / "out" / "captions-00000-of-00001.jsonl"
    path.write_bytes(path.read_bytes()[: -cut or None])
    second = parrot(monkeypatch)
    run(tmp_path / "out", edits, "--model", "m", "--batch_size", 2)
    assert path.read_bytes() == (tmp_path / "whole" / path.name).read_bytes()
    again = set(first.asked) & set(second.asked)
    assert all("ball 1" in text for text in again)
    assert len(again) == (2 if cut else 0)
    third = parrot(monkeypatch)
    run(tmp_path / "out", edits, "--model", "m", "--batch_size", 2)
    assert third.asked == []


def test_captions_are_one_line_each(
    edits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parrot(monkeypatch)
    run(tmp_path / "out", edits, "--model", "m")
    source = f"{len(SOURCE_PROMPT.format(instruction='make ball 0 red'))} letters"
    told = EDITED_PROMPT.format(caption=source, instruction="make ball 0 red")
    found = lines(tmp_path / "out" / "captions-00000-of-00001.jsonl")
    assert found["brush.parquet:0"] == (source, f"{len(told)} letters")


def refusal(capsys: pytest.CaptureFixture[str], output: Path, edits: Path, *more: object) -> str:
    with pytest.raises(SystemExit):
        run(output, edits, *more)
    return capsys.readouterr().err


def test_an_empty_answer_names_its_row(
    edits: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    parrot(monkeypatch, silent_on="ball 3")
    told = refusal(capsys, tmp_path / "out", edits, "--model", "m")
    assert "brush.parquet:3: the model says nothing about this pair. Write its line" in told


def test_another_model_or_other_pairs_are_not_mixed_in(
    edits: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    parrot(monkeypatch)
    run(tmp_path / "out", edits, "--model", "m")
    assert "made with another model" in refusal(capsys, tmp_path / "out", edits, "--model", "n")
    datasets.Dataset.from_parquet(str(edits)).select(range(3)).to_parquet(edits)  # type: ignore
    assert "made with another edits" in refusal(capsys, tmp_path / "out", edits, "--model", "m")


def test_rows_that_cannot_be_captioned_are_named(
    edits: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(caption_edits, "open_language_model", lambda *_: Parrot())
    told = refusal(capsys, tmp_path / "words", edits, "--language_model", "m")
    assert "brush.parquet row 0 has no source caption to rewrite: give a --model" in told
    parrot(monkeypatch)
    table = datasets.load_dataset("parquet", data_files=str(edits), split="train")
    rows = [dict(row) for row in table]  # type: ignore[arg-type]
    rows[1]["instruction"] = " "
    datasets.Dataset.from_list(rows).to_parquet(tmp_path / "b.parquet")
    told = refusal(capsys, tmp_path / "b", tmp_path / "b.parquet", "--model", "m")
    assert "b.parquet row 1 has no instruction. Write its line" in told
    rows[1] = {**rows[0], "target_img": {"bytes": b"broken", "path": None}}
    datasets.Dataset.from_list(rows).to_parquet(tmp_path / "c.parquet")
    told = refusal(capsys, tmp_path / "c", tmp_path / "c.parquet", "--model", "m")
    assert "c.parquet row 1, edited_image: the picture cannot be decoded" in told


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (
            ("--model", "m", "--shard", "2", "--shards", "2"),
            "--shard 2 is none of the shards 0 to 1",
        ),
        (("--model", "m", "--batch_size", "0"), "--batch_size must be at least 1"),
        (("--model", "no/such"), "no/such"),
        ((), "one of the arguments --model --language_model is required"),
        (("--model", "m", "--language_model", "n"), "not allowed with"),
    ],
)
def test_what_cannot_be_is_told_in_one_message(
    edits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple, told: str
) -> None:
    assert told in refusal(capsys, tmp_path / "out", edits, *more)
    assert not (tmp_path / "out").exists()


def test_a_model_of_the_other_kind_is_told(
    edits: Path, language_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = refusal(capsys, tmp_path / "out", edits, "--model", language_model)
    assert "cannot be opened as a vision-language model" in told


def test_two_files_of_one_name_are_refused(
    edits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / edits.name).write_bytes(edits.read_bytes())
    told = refusal(capsys, tmp_path / "out", edits, tmp_path / "x" / edits.name, "--model", "m")
    assert "2 files are named brush.parquet" in told
