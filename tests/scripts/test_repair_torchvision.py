"""The repair of a torchvision whose compiled half cannot load; the real one is left alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from scripts import repair_torchvision as repair


@pytest.fixture
def site_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for site-packages inside a virtual environment."""
    monkeypatch.setattr(repair.sysconfig, "get_path", {"purelib": str(tmp_path)}.__getitem__)
    monkeypatch.setattr(repair.sys, "prefix", "a virtual environment")
    return tmp_path


def answers(monkeypatch: pytest.MonkeyPatch, *errors: str) -> None:
    """What `import torchvision` says, time after time."""
    left = list(errors)
    monkeypatch.setattr(repair, "import_error", lambda: left.pop(0))


def test_a_working_torchvision_is_left_alone(
    site_packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(monkeypatch, "")
    repair.main()
    assert not list(site_packages.iterdir())


def test_another_trouble_is_shown_and_not_touched(
    site_packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(monkeypatch, "No module named 'torch'")
    with pytest.raises(SystemExit, match="No module named 'torch'"):
        repair.main()
    assert not list(site_packages.iterdir())


def test_the_hook_is_written_and_checked(
    site_packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(monkeypatch, f"RuntimeError: {repair.SYMPTOM}", "")
    repair.main()
    assert {path.name for path in site_packages.iterdir()} == {
        "torchvision_without_cuda.py",
        "torchvision_without_cuda.pth",
    }


def test_a_repair_that_does_not_help_says_so(
    site_packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(monkeypatch, repair.SYMPTOM, "still broken")
    with pytest.raises(SystemExit, match="still broken"):
        repair.main()


def test_it_refuses_to_write_outside_a_virtual_environment(
    site_packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(monkeypatch, repair.SYMPTOM)
    monkeypatch.setattr(repair.sys, "prefix", sys.base_prefix)
    with pytest.raises(SystemExit, match="virtual environment"):
        repair.main()
    assert not list(site_packages.iterdir())


def test_the_hook_declares_the_operators_only_when_torchvision_is_wanted(tmp_path: Path) -> None:
    """In an interpreter of its own, with stand-ins for torch and torchvision."""
    (tmp_path / "hook.py").write_text(repair.HOOK)
    (tmp_path / "torch.py").write_text(
        "print('torch')\nclass library:\n  class Library:\n    def __init__(self, *_): pass\n"
        "    def define(self, schema): print(schema.split('(')[0])\n"
    )
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text("print('torchvision')")
    code = "import hook; print('start'); import json, torchvision"
    result = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == ["start", "torch", "nms", "qnms", "torchvision"]
