import numpy as np
import pytest
from PIL import Image

from tests.tiny_tower import encoded, picture
from vision_tower.images import decode


def test_decodes_files_and_bytes_alike(tmp_path):
    image = picture(np.random.default_rng(0))
    (tmp_path / "a.png").write_bytes(encoded(image))
    for source in (tmp_path / "a.png", encoded(image)):
        assert np.array_equal(np.asarray(decode(source, "row 1")), np.asarray(image))


def test_a_large_jpeg_is_decoded_smaller_and_looks_the_same_when_resized(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (12, 16, 3), dtype=np.uint8)
    whole = Image.fromarray(noise).resize((512, 384), Image.Resampling.BICUBIC)
    whole.save(tmp_path / "a.jpg", quality=95)
    small = [decode(tmp_path / "a.jpg", "row 1", side) for side in (0, 100, 96, 40)]
    assert [image.size for image in small] == [(512, 384), (512, 384), (256, 192), (128, 96)]
    resized = [np.asarray(i.resize((40, 30), Image.Resampling.BICUBIC), float) for i in small]
    assert all(np.abs(image - resized[0]).mean() < 1 for image in resized)
    assert decode(encoded(whole), "row 1", 40).size == (512, 384), "a png has one size"


def test_other_modes_become_rgb():
    assert decode(encoded(Image.new("LA", (4, 4))), "row 1").mode == "RGB"


@pytest.mark.parametrize("kept", [0, 20, 120])
def test_a_truncated_picture_names_its_row(tmp_path, kept):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    image.save(tmp_path / "a.jpg")
    data = (tmp_path / "a.jpg").read_bytes()[: -1000 if kept == 120 else kept]
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(ValueError, match=r"x\.json row 7 .*cannot be decoded.*remove the row"):
        decode(tmp_path / "a.jpg", "x.json row 7 (id c)")


def test_a_missing_picture_names_its_row(tmp_path):
    with pytest.raises(ValueError, match=r"row 7.*none.png"):
        decode(tmp_path / "none.png", "row 7")


def test_a_broken_chunk_of_a_png_names_its_row():
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    data = bytearray(encoded(Image.fromarray(noise)))
    data[data.index(b"IDAT")] = 0  # PIL raises SyntaxError
    with pytest.raises(ValueError, match=r"row 7.*cannot be decoded"):
        decode(bytes(data), "row 7")


def test_a_picture_too_large_names_its_row(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match=r"row 7.*cannot be decoded.*decompression bomb"):
        decode(encoded(Image.new("RGB", (40, 40))), "row 7")


def test_a_photo_taken_sideways_stands_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: to be turned by 90 degrees
    Image.new("RGB", (20, 10)).save(tmp_path / "a.jpg", exif=exif)
    assert decode(tmp_path / "a.jpg", "row 1").size == (10, 20)
