"""Who may import whom, and which packages may be imported where (read by ast, nothing is run)."""

from __future__ import annotations

import ast
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# What each of our packages may import of ours besides itself.
MAY_IMPORT: dict[str, set[str]] = {
    "mllm": set(),
    "vision_tower": set(),
    "training": {"mllm", "vision_tower"},
    "eval": {"mllm", "vision_tower"},
    "scripts": {"mllm", "vision_tower", "training"},  # what checks a recipe reads it as stages do
    "benchmarks": {"mllm", "training", "vision_tower"},
}
# Packages with one place, or none: transformers and the launchers own the last two.
ONLY_IN: dict[str, set[str]] = {
    "gradio": {"scripts/demo.py"},
    "peft": {"mllm/adapters.py"},
    "bitsandbytes": set(),
    "deepspeed": set(),
    "open_clip_train": {"benchmarks/steps.py"},
}
FILES = sorted(path for package in MAY_IMPORT for path in (ROOT / package).rglob("*.py"))
# `python training/x.py` puts training/ first on sys.path, and so for these folders.
SCRIPT_FOLDERS = sorted(
    {
        path.parent
        for path in FILES
        if path.parts[len(ROOT.parts)] in ("training", "eval", "scripts", "benchmarks")
    }
)


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported(path: Path) -> set[str]:
    """Top-level packages that a file imports anywhere, "." for a relative import."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add("." if node.level else (node.module or "").split(".")[0])
    return found


def test_the_reader_of_imports_sees_all_kinds(tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    file.write_text(
        "import a.b as c\nfrom d.e import f\ndef g():\n    from . import h\n    import i\n"
    )
    assert imported(file) == {"a", "d", ".", "i"}


@pytest.mark.parametrize("path", FILES, ids=name)
def test_layers(path: Path) -> None:
    own = path.relative_to(ROOT).parts[0]
    ours = imported(path) & set(MAY_IMPORT)
    assert ours <= MAY_IMPORT[own] | {own}, f"{own} must not import {ours - {own}}"
    assert "." not in imported(path), "absolute imports only: these folders are run as scripts"
    assert "tests" not in imported(path)


# Packages and functions that fetch files by address. What opens a model may ask the hub for it;
# data of benchmarks is fetched by scripts/fetch_benchmarks.py, before.
FETCHERS = {"aiohttp", "fsspec", "httpx", "httpx2", "requests", "urllib", "urllib3", "wget"}
FETCHING = {"hf_hub_download", "http_get", "load_dataset", "snapshot_download"}


@pytest.mark.parametrize("path", [p for p in FILES if name(p).startswith("eval/")], ids=name)
def test_an_evaluation_fetches_nothing(path: Path) -> None:
    assert not imported(path) & (FETCHERS | {"scripts"})
    used = {
        node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else
        node.name if isinstance(node, ast.alias) else ""
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    }  # fmt: skip
    assert not used & FETCHING


def test_eval_is_never_imported_bare() -> None:
    """`import eval` would shadow the builtin; `from eval.x import y` does not."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                assert all(alias.name not in ("eval", "training") for alias in node.names), path
            elif isinstance(node, ast.ImportFrom):
                assert node.module not in ("eval", "training"), f"{name(path)}: name the module"


@pytest.mark.parametrize("package", ONLY_IN)
def test_packages_with_one_place(package: str) -> None:
    users = {name(path) for path in FILES if package in imported(path)}
    assert users <= ONLY_IN[package]


@pytest.mark.parametrize("folder", SCRIPT_FOLDERS, ids=name)
def test_no_file_shadows_another_module(folder: Path) -> None:
    """`training/queue.py` would be what the standard library then imports as queue."""
    ours = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    # A folder without __init__.py (training/deepspeed) yields to a package of that name.
    ours |= {path.parent.name for path in folder.glob("*/__init__.py")}
    taken = set(sys.stdlib_module_names) | set(packages_distributions()) - set(MAY_IMPORT)
    own = folder.relative_to(ROOT).parts[0]
    assert not ours & (taken | MAY_IMPORT[own] | {own})


def test_every_package_is_installed() -> None:
    """A package that pyproject.toml does not list is missing outside an editable install."""
    listed = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for path in FILES:
        if path.name == "__init__.py":
            assert f'"{".".join(path.relative_to(ROOT).parent.parts)}"' in listed, name(path)
