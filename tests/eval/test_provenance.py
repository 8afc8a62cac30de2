"""Hashes: what must change one, and what must not."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from eval.benchmark import Question
from eval.provenance import (
    data_hashes,
    file_hash,
    files_hash,
    model_hash,
    pictures_hash,
    prompts_hash,
    versions,
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    for name in ("config.json", "model.safetensors", "chat_template.jinja", "vision/config.json"):
        path = tmp_path / "model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "model"


def test_file_hash(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert file_hash(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()
    assert data_hashes(tmp_path, [tmp_path / "a"]) == {"a": hashlib.sha256(b"abc").hexdigest()}


@pytest.mark.parametrize(
    "name", ["model.safetensors", "chat_template.jinja", "vision/config.json", "added.json"]
)
def test_model_hash_changes_with_what_answers(model: Path, name: str) -> None:
    before = model_hash(model)
    (model / name).write_text("changed")
    assert model_hash(model) != before


@pytest.mark.parametrize(
    "name",
    [
        "recipe.json",
        "trainer_state.json",
        "sha256.json",
        "checkpoint-9/model.safetensors",
        "notes.md",
    ],
)
def test_model_hash_ignores_the_training_record(model: Path, name: str) -> None:
    before = model_hash(model)
    (model / name).parent.mkdir(exist_ok=True)
    (model / name).write_text("new")
    assert model_hash(model) == before


def test_model_hash_does_not_depend_on_the_place(model: Path) -> None:
    before = model_hash(model)
    assert model_hash(model.rename(model.parent / "elsewhere")) == before


def test_names_count_as_well_as_contents(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text("same")
    one, other = [tmp_path / "a", tmp_path / "b"], [tmp_path / "a", tmp_path / "c"]
    assert files_hash(tmp_path, one) != files_hash(tmp_path, other)
    assert files_hash(tmp_path, one) == files_hash(tmp_path, reversed(one))
    assert pictures_hash(tmp_path, ["a", "b", "a"]) == pictures_hash(tmp_path, ["b", "a"])


def test_versions_name_what_reads_answers() -> None:
    assert {"python", "transformers", "nltk", "textblob"} <= set(versions())


def test_prompts_are_told_apart_by_any_of_them() -> None:
    asked = [Question(str(n), f"What? {n}", None, "yes", "") for n in range(3)]
    assert prompts_hash(asked) == prompts_hash(asked[::-1])
    for changed in (asked[:2], [*asked[:2], replace(asked[2], prompt="What? 2\nBriefly.")]):
        assert prompts_hash(changed) != prompts_hash(asked)
