"""Exporting any CLIP as a tower directory."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoImageProcessor, CLIPVisionModel

from scripts import export_tower
from tests.tiny_tower import SIZE, write_tower
from vision_tower.towers import load_tower, save_tower


def test_the_tower_and_its_vision_side_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, directory = write_tower(tmp_path / "clip"), tmp_path / "tower"
    monkeypatch.setattr("sys.argv", ["export_tower.py", str(source), str(directory)])
    export_tower.main()
    pixel_values_BCHW = torch.rand(2, 3, SIZE, SIZE)
    with torch.no_grad():
        before = load_tower(str(source)).encode_image(pixel_values_BCHW)
        after = load_tower(str(directory)).encode_image(pixel_values_BCHW)
    torch.testing.assert_close(after, before, rtol=0, atol=0)
    assert CLIPVisionModel.from_pretrained(directory / "vision").config.image_size == SIZE
    processor = AutoImageProcessor.from_pretrained(directory / "vision")
    assert list(processor.image_mean) == [0.5, 0.4, 0.3]


def test_a_tower_averaged_with_its_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    start = load_tower(str(write_tower(tmp_path / "start")))
    trained = load_tower(str(tmp_path / "start"))
    for parameter in trained.parameters():
        parameter.data += 1
    save_tower(trained, tmp_path / "trained")
    save_tower(start.with_rotary_text(248, 10000.0), tmp_path / "rotary")

    def export(first: str, *more: str) -> None:
        command = [str(tmp_path / first), str(tmp_path / "mixed"), *more]
        monkeypatch.setattr("sys.argv", ["export_tower.py", *command])
        export_tower.main()

    export("trained", "--start", str(tmp_path / "start"), "--alpha", "0.25")
    mixed = load_tower(str(tmp_path / "mixed")).state_dict()
    for name, tensor in start.state_dict().items():
        torch.testing.assert_close(mixed[name], tensor + 0.25, rtol=0, atol=1e-5)
    for wrong, told in (
        (("rotary", "--start", str(tmp_path / "start"), "--alpha", "0.5"), "different settings"),
        (("trained", "--alpha", "0.5"), "go together"),
        (("trained", "--start", str(tmp_path / "start"), "--alpha", "2"), "not 2.0"),
    ):
        with pytest.raises(SystemExit):
            export(*wrong)
        assert told in capsys.readouterr().err


def test_a_tower_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["export_tower.py", "no/such", str(tmp_path / "tower")])
    with pytest.raises(SystemExit):
        export_tower.main()
    assert "no/such" in capsys.readouterr().err
    assert not (tmp_path / "tower").exists()
