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
