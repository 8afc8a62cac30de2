"""Importing released checkpoints as tower directories."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import open_clip
import pytest
import torch
from transformers import CLIPVisionModel

from scripts import import_tower
from tests.tiny_released import (
    ARCHITECTURES,
    random_clip,
    write_clip_in,
    write_long_clip,
    write_tulip,
)
from tests.tiny_tower import SIZE
from vision_tower.towers import load_tower


@pytest.fixture
def import_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    for name, sizes in ARCHITECTURES.items():
        monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, name, copy.deepcopy(sizes))

    def run(*flags: str) -> Path:
        paths = [str(tmp_path / "released.pt"), str(tmp_path / "tower")]
        monkeypatch.setattr("sys.argv", ["import_tower.py", *paths, *flags])
        import_tower.main()
        return tmp_path / "tower"

    return run


@pytest.mark.parametrize(
    ("write", "flags", "told"),
    [
        (write_clip_in, [], "rotary positions, GELU"),
        (write_tulip, ["--rotary"], "rotary positions, GELU"),
        (write_long_clip, [], "learned positions"),
    ],
)
def test_a_tower_and_its_vision_side_are_written(
    tmp_path: Path,
    import_it: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    write: Callable[[Path], object],
    flags: list[str],
    told: str,
) -> None:
    write(tmp_path / "released.pt")
    directory = import_it("--architecture", "tiny-quickgelu", *flags)
    assert f"images with QuickGELU; texts of 248 tokens with {told}" in capsys.readouterr().out
    tower = load_tower(str(directory))
    assert tower.tokenizer(["red cube " * 900]).shape == (1, 248)
    pixel_values_BCHW = torch.rand(2, 3, SIZE, SIZE)
    with torch.no_grad():
        after = tower.encode_image(pixel_values_BCHW)
        before = random_clip().encode_image(pixel_values_BCHW)
    torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-5)
    assert CLIPVisionModel.from_pretrained(directory / "vision").config.hidden_act == "quick_gelu"


def test_what_cannot_be_imported_ends_with_one_message(
    tmp_path: Path, import_it: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(told: str, *flags: str) -> None:
        with pytest.raises(SystemExit):
            import_it(*flags)
        assert told in capsys.readouterr().err

    refused("--architecture")
    refused("there is no file", "--architecture", "tiny")
    write_tulip(tmp_path / "released.pt")
    refused("say --rotary", "--architecture", "tiny-quickgelu")
    refused("no architecture of open_clip's", "--architecture", "tiny-b")
    assert not (tmp_path / "tower").exists()
