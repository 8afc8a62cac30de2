import struct

import numpy as np
import pytest
from PIL import Image

from mllm.conversation_files import Conversations
from mllm.conversations import ConversationError
from mllm.packs import OpenedRows, Packs, pack
from tests.tiny_llava import picture, row, write_rows


def test_every_row_is_in_one_pack_and_none_is_too_full():
    lengths = np.random.default_rng(0).integers(1, 101, 10_000).tolist()
    packs = pack(lengths, 100, seed=3)
    assert sorted(row for one in packs for row in one) == list(range(10_000))
    full = [sum(lengths[row] for row in one) for one in packs]
    assert max(full) <= 100


@pytest.mark.parametrize("room", [2048, 4096])
def test_little_is_left_empty_of_lengths_as_llavas_mixture_has(room):
    """40 % texts without picture, short and long answers: at most 3 % may be padding."""
    rng = np.random.default_rng(1)
    words = np.minimum(rng.lognormal(4.6, 1.0, 20_000).astype(int) + 20, room - 576)
    lengths = (words + 576 * (rng.random(20_000) > 0.4)).tolist()
    packs = pack(lengths, room, seed=0)
    assert sum(lengths) / (room * len(packs)) > 0.97


def test_packs_depend_on_the_seed_alone():
    lengths = np.random.default_rng(2).integers(1, 50, 500).tolist()
    assert pack(lengths, 64, seed=1) == pack(lengths, 64, seed=1)
    assert pack(lengths, 64, seed=1) != pack(lengths, 64, seed=2)


def test_best_fit_by_hand():
    # 7 opens a pack, 6 another, 3 fits the first exactly, 4 the second, 2 opens a third.
    told = pack([7, 3, 6, 2, 4], 10, seed=0)
    assert sorted(map(sorted, told)) == [[0, 1], [2, 4], [3]]


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
