"""The house rules that a machine can count. CONTRIBUTING.md says what they are for."""

from __future__ import annotations

import ast
import dataclasses
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from training.adapt_text_encoder import AdaptTextEncoder
from training.arguments import StageArguments
from training.finetune import Finetune
from training.pretrain_projector import PretrainProjector
from training.train_vision_tower import TrainVisionTower

ROOT = Path(__file__).parents[1]
PACKAGES = ("benchmarks", "eval", "mllm", "scripts", "training", "vision_tower")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
PYTHON = [*SOURCES, *sorted((ROOT / "tests").rglob("*.py"))]
LINES_PER_FILE, LINES_PER_FUNCTION, FIELDS_PER_RECIPE = 250, 40, 12
STAGES = (AdaptTextEncoder, TrainVisionTower, PretrainProjector, Finetune)
VAGUE = {"util", "utils", "helper", "helpers", "common", "base", "builder", "misc", "constants"}


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def nodes(path: Path) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_files_are_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LINES_PER_FILE


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_functions_are_short(path: Path) -> None:
    """Counted without the docstring, from `def` to the last line."""
    for node in nodes(path):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            told = 0
            if isinstance(first, ast.Expr) and ast.get_docstring(node) is not None:
                told = (first.end_lineno or 0) - first.lineno + 1
            length = (node.end_lineno or 0) - node.lineno + 1 - told
            assert length <= LINES_PER_FUNCTION, f"{node.name}: {length} lines"


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_modules_say_what_they_are_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", PYTHON, ids=name)
def test_nothing_is_left_to_do_and_no_code_is_commented_out(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            comment = token.string.lstrip("#").strip()
            assert not re.match(r"(TODO|FIXME|XXX)\b", comment), token.line
            assert not re.match(r"(import \w+|from \w+ import|def \w+\(|return\b.*\()", comment)


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_names_say_what_is_inside(path: Path) -> None:
    assert path.stem not in VAGUE


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_errors_are_named_and_defaults_are_said(path: Path) -> None:
    """No bare except; no getattr or hasattr that makes a missing attribute a silent default."""
    for node in nodes(path):
        assert not (isinstance(node, ast.ExceptHandler) and node.type is None)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id != "hasattr", f"line {node.lineno}"
            assert node.func.id != "getattr" or len(node.args) == 2, f"line {node.lineno}"


@pytest.mark.parametrize(
    "path", [p for p in SOURCES if name(p).split("/")[0] in ("mllm", "vision_tower")], ids=name
)
def test_libraries_do_not_print(path: Path) -> None:
    calls = [node.func for node in nodes(path) if isinstance(node, ast.Call)]
    assert not [call for call in calls if isinstance(call, ast.Name) and call.id == "print"]


@pytest.mark.parametrize("path", [p for p in SOURCES if "miniature" not in name(p)], ids=name)
def test_the_code_does_not_know_the_miniature(path: Path) -> None:
    """It is data, weights and recipes only: docstrings may name it, code may not."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    told = {
        id(statement.value)
        for node in ast.walk(tree)
        for statement in (
            node.body if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) else []
        )
        if isinstance(statement, ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told:
            assert "miniature" not in node.value, f"line {node.lineno}"


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.__name__)
def test_recipes_have_few_fields_of_their_own(stage: type[StageArguments]) -> None:
    inherited = {field.name for field in dataclasses.fields(StageArguments)}
    own = [field for field in dataclasses.fields(stage) if field.name not in inherited]
    assert 0 < len(own) <= FIELDS_PER_RECIPE
    assert all(field.metadata.get("help") for field in own)
