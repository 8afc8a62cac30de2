import struct

import numpy as np
import pytest
from PIL import Image

from mllm.conversation_files import Conversations
from mllm.conversations import ConversationError
from mllm.packs import OpenedRows, Packs, pack
from tests.tiny_llava import picture, row, write_rows


def test_every_row_is_in_one_pack_and_none_is_too_full():
    random = np.random.default_rng(0)
    pictured = random.random(10_000) < 0.5
    lengths = np.where(pictured, random.integers(30, 101, 10_000), random.integers(1, 71, 10_000))
    packs = pack(lengths.tolist(), pictured.tolist(), 100, 30, seed=3)
    assert sorted(row for one in packs for row in one) == list(range(10_000))
    blind = [not pictured[one].any() for one in packs]
    assert 0 < sum(blind) < len(packs)
    full = [lengths[one].sum() + 30 * without for one, without in zip(packs, blind, strict=True)]
    assert max(full) == 100


@pytest.mark.parametrize("room", [2048, 4096])
def test_little_is_left_empty_of_lengths_as_llavas_mixture_has(room):
    """40 % texts without picture, short and long answers: at most 3 % may be padding."""
    rng = np.random.default_rng(1)
    words = np.minimum(rng.lognormal(4.6, 1.0, 20_000).astype(int) + 20, room - 576)
    pictured = rng.random(20_000) > 0.4
    lengths = (words + 576 * pictured).tolist()
    packs = pack(lengths, pictured.tolist(), room, 576, seed=0)
    assert sum(lengths) / (room * len(packs)) > 0.97


def test_packs_depend_on_the_seed_alone():
    lengths = np.random.default_rng(2).integers(1, 50, 500).tolist()
    told = [pack(lengths, [False] * 500, 64, 8, seed=seed) for seed in (1, 1, 2)]
    assert told[0] == told[1] != told[2]


def test_best_fit_by_hand():
    # 7 opens a pack, 6 another, 3 fits the first exactly, 4 the second, 2 opens a third.
    told = pack([7, 3, 6, 2, 4], [True] * 5, 10, 2, seed=0)
    assert sorted(map(sorted, told)) == [[0, 1], [2, 4], [3]]


def test_a_pack_keeps_a_place_for_its_first_picture():
    # Texts of 5 and 2 leave 1 of 10 beside a blank picture of 2; a row of 3, two of them its
    # picture, takes both. One more picture would have to bring its own tokens.
    for pictured, expected in ((True, [[0, 1, 2]]), (False, [[0, 2], [1]])):
        told = pack([5, 2, 3], [False, False, pictured], 10, 2, seed=0)
        assert sorted(map(sorted, told)) == expected
    told = pack([5, 3, 3], [False, True, True], 10, 2, seed=0)
    assert sorted(map(len, told)) == [1, 2]


def test_pictures_are_opened_from_files_and_from_bytes(tmp_path):
    rows = Conversations([write_rows(tmp_path, [row("a", "a.png", "q", "a")])], tmp_path)
    [[opened]] = Packs(OpenedRows(rows), [[0]])
    assert opened.conversation == rows[0]
    assert np.array_equal(opened.pictures[0], picture(0))


def test_a_truncated_picture_is_named(tmp_path):
    file = write_rows(tmp_path, [row("cut", "c.png", "what", "one")])
    picture(0, 64, 64).save(tmp_path / "c.png")
    (tmp_path / "c.png").write_bytes((tmp_path / "c.png").read_bytes()[:2000])
    packs = OpenedRows(Conversations([file], tmp_path))
    with pytest.raises(ConversationError, match=r"\(id cut\).*c\.png cannot be decoded"):
        packs[0]


def test_a_picture_that_is_not_there_is_told_as_in_training(tmp_path):
    """Its path is no text in base64 either, as transformers would read it."""
    file = write_rows(tmp_path, [row("lost", "l.png", "what", "one")])
    (tmp_path / "l.png").unlink()
    rows = OpenedRows(Conversations([file], tmp_path))
    told = r"\(id lost\): there is no picture .*l\.png \(check image_root\)$"
    with pytest.raises(ConversationError, match=told):
        rows[0]


@pytest.mark.parametrize("error", [struct.error("a short"), TypeError("bad operand")])
def test_a_picture_with_broken_exif_data_is_named(error, tmp_path, monkeypatch):
    """As PIL ends on some of it."""
    rows = Conversations([write_rows(tmp_path, [row("exif", "e.png", "what", "one")])])

    def broken(_):
        raise error

    monkeypatch.setattr("mllm.packs.load_image", broken)
    with pytest.raises(ConversationError, match=r"\(id exif\).*cannot be decoded"):
        OpenedRows(rows)[0]


def test_a_grey_picture_becomes_rgb(tmp_path):
    file = write_rows(tmp_path, [row("grey", "g.png", "what", "one")])
    Image.new("L", (8, 8), 7).save(tmp_path / "g.png")
    opened = OpenedRows(Conversations([file], tmp_path))[0]
    assert opened.pictures[0].mode == "RGB"
