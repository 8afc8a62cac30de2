"""Towers from released checkpoints: what they compute, and what is refused."""

import copy
from pathlib import Path

import open_clip
import pytest
import torch
from open_clip.transformer import QuickGELU
from safetensors.torch import save_file
from torch import nn

from tests.naive_text import naive_encode, quick_gelu
from tests.tiny_released import (
    ARCHITECTURES,
    random_clip,
    write_clip_in,
    write_long_clip,
    write_tulip,
)
from tests.tiny_tower import SIZE, VISION, WORDS
from vision_tower.released import read_weights, released_tower
from vision_tower.towers import load_tower, save_tower

CAPTIONS = ["a red cube", " ".join(WORDS * 12)]  # 5 and 182 tokens


@pytest.fixture(autouse=True)
def architectures(monkeypatch):
    for name, sizes in ARCHITECTURES.items():
        monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, name, copy.deepcopy(sizes))


def text_features(tower, state, **reference):
    """The tower's features of CAPTIONS, and those of the reference."""
    tokens = tower.tokenizer(CAPTIONS)
    assert tokens.shape == (2, 182)
    with torch.no_grad():
        expected = [naive_encode(state, row, heads=2, **reference) for row in tokens]
        return tower.encode_text(tokens), torch.stack(expected)


def assert_encodes_images_as_its_base(tower):
    pictures = torch.randn(2, 3, SIZE, SIZE)
    with torch.no_grad():
        expected = random_clip().encode_image(pictures)
        torch.testing.assert_close(tower.encode_image(pictures), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("write", "rotary"), [(write_clip_in, False), (write_tulip, True)])
def test_rotary_releases_have_gelu_texts_and_quick_gelu_images(tmp_path, write, rotary):
    state = write(tmp_path / "released.pt")
    tower = released_tower(tmp_path / "released.pt", "tiny-quickgelu", rotary).eval()
    told, expected = text_features(tower, state, base=10000.0, activation=nn.functional.gelu)
    torch.testing.assert_close(told, expected, rtol=1e-4, atol=1e-4)
    _, other = text_features(tower, state, base=10000.0, activation=quick_gelu)
    assert (other - expected).abs().max() > 1e-2, "the test must tell the activations apart"
    assert isinstance(tower.visual.transformer.resblocks[0].mlp.gelu, QuickGELU)
    assert_encodes_images_as_its_base(tower)
    assert torch.equal(tower.logit_scale, state["logit_scale"].reshape(1))


def test_long_clip_reads_its_first_20_positions_from_the_one_table(tmp_path):
    state = write_long_clip(tmp_path / "longclip.pt")
    tower = released_tower(tmp_path / "longclip.pt", "tiny-quickgelu").eval()
    mask1, mask2 = torch.zeros(248, 1), torch.zeros(248, 1)
    mask1[:20], mask2[20:] = 1, 1
    kept, stretched = state["positional_embedding"], state["positional_embedding_res"]
    told, expected = text_features(tower, state, position_LW=kept * mask1 + stretched * mask2)
    torch.testing.assert_close(told, expected, rtol=1e-4, atol=1e-4)
    _, other = text_features(tower, state, position_LW=stretched)
    assert (other - expected).abs().max() > 1e-2, "the test must tell the tables apart"
    assert tower.context_length == 248
    assert_encodes_images_as_its_base(tower)


@pytest.mark.parametrize(
    ("write", "rotary"), [(write_clip_in, False), (write_tulip, True), (write_long_clip, False)]
)
def test_an_imported_tower_reopens_bit_for_bit(tmp_path, write, rotary):
    write(tmp_path / "released.pt")
    tower = released_tower(tmp_path / "released.pt", "tiny-quickgelu", rotary).eval()
    save_tower(tower, tmp_path / "tower")
    again = load_tower(str(tmp_path / "tower")).eval()
    assert again.context_length == tower.context_length == 248
    tokens, pictures = again.tokenizer(CAPTIONS), torch.randn(2, 3, SIZE, SIZE)
    with torch.no_grad():
        assert torch.equal(again.encode_text(tokens), tower.encode_text(tokens))
        assert torch.equal(again.encode_image(pictures), tower.encode_image(pictures))


def test_safetensors_and_half_precision_are_read(tmp_path):
    state = write_long_clip(tmp_path / "longclip.pt")
    half = {name: tensor.half() for name, tensor in state.items()}
    save_file(half, tmp_path / "longclip.safetensors")
    tower = released_tower(tmp_path / "longclip.safetensors", "tiny-quickgelu")
    for name in ("ln_final.weight", "transformer.resblocks.1.attn.in_proj_weight"):
        assert torch.equal(tower.state_dict()[f"text.{name}"], half[name].float())


def refused(file, *told, architecture="tiny-quickgelu", rotary=False, error=ValueError):
    with pytest.raises(error) as caught:
        released_tower(file, architecture, rotary)
    for words in (*told, str(file)):
        assert words in str(caught.value)


def test_every_weight_is_accounted_for(tmp_path):
    file = tmp_path / "wrong.pt"
    state = write_long_clip(file)
    lost = state.pop("ln_final.bias")
    torch.save({**state, "mask_net": lost}, file)
    refused(file, "missing: text.ln_final.bias; left over: text.mask_net", "tiny-quickgelu")
    torch.save({**state, "ln_final.bias": lost[:3]}, file)
    refused(file, "of another shape: text.ln_final.bias (3,) for (16,)")
    torch.save({n: t for n, t in state.items() if not n.startswith("visual.")}, file)
    refused(file, "missing: visual.class_embedding, visual.positional_embedding", " more)")
    del state["positional_embedding"]
    torch.save(state, file)
    refused(file, "lacks the positional_embedding")


def test_an_architecture_of_other_sizes_is_refused(tmp_path, monkeypatch):
    larger = {**ARCHITECTURES["tiny"], "vision_cfg": {**VISION, "image_size": 2 * SIZE}}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny-32", larger)
    write_clip_in(tmp_path / "clip-in.pt")
    told = ("tiny-32", "visual.positional_embedding (5, 16) for (17, 16)")
    refused(tmp_path / "clip-in.pt", *told, architecture="tiny-32")


def test_layouts_that_names_do_not_tell_must_be_said(tmp_path):
    file = tmp_path / "released.pt"
    write_tulip(file)
    refused(file, "table of learned positions", "--rotary", f"tiny-quickgelu:{file}")
    write_long_clip(file)
    refused(file, "Leave --rotary out", rotary=True)
    refused(file, "ViT-L-14-quickgelu", architecture="tiny")


@pytest.mark.parametrize(
    ("architecture", "told"),
    [
        ("ViT-L-15", "no architecture of open_clip's"),
        ("hf-hub:some/one", "no architecture of open_clip's"),
        ("coca_ViT-B-32", "one image encoder and open_clip's own text"),
        ("roberta-ViT-B-32", "one image encoder and open_clip's own text"),
    ],
)
def test_an_architecture_that_cannot_be_is_refused(tmp_path, architecture, told):
    with pytest.raises(ValueError, match=told) as caught:
        released_tower(tmp_path / "released.pt", architecture)
    assert architecture in str(caught.value)


class Payload:
    """Pickled, it makes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    weights = {"state_dict": {"module.logit_scale": torch.ones(())}}
    torch.save({**weights, "args": Payload(tmp_path / "ran")}, tmp_path / "payload.pt")
    refused(tmp_path / "payload.pt", "without running code", "safetensors")
    assert not (tmp_path / "ran").exists()
    torch.load(tmp_path / "payload.pt", weights_only=False)
    assert (tmp_path / "ran").exists(), "the payload must be able to run"


def test_what_is_no_checkpoint_is_refused(tmp_path):
    refused(tmp_path / "no.pt", "there is no file", error=FileNotFoundError)
    for name in ("text.pt", "text.safetensors"):
        (tmp_path / name).write_text("weights")
        refused(tmp_path / name, "no checkpoint that opens")
    write_clip_in(tmp_path / "whole.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "whole.pt").read_bytes()[:2000])
    refused(tmp_path / "cut.pt", "no checkpoint that opens")
    for content in ([torch.ones(2)], {"state_dict": torch.ones(2)}, {}, {"epoch": 1}):
        torch.save(content, tmp_path / "else.pt")
        refused(tmp_path / "else.pt", "no weights by name")


def test_the_wrapper_of_parallel_training_is_taken_off(tmp_path):
    state = write_tulip(tmp_path / "tulip.pt")
    weights = read_weights(tmp_path / "tulip.pt")
    assert weights.keys() == state.keys()
    assert all(torch.equal(weights[name], state[name]) for name in state)
