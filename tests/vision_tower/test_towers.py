import json
import math
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from tests.tiny_tower import TEXT, WORDS, write_tower
from vision_tower.towers import CONFIG, WEIGHTS, Tower, load_tower, save_tower

CAPTIONS = ["a red cube", "two balls left of a small green cone, above a blue cube", "wood"]


@pytest.fixture(params=[False, True], ids=["clip", "custom_text"])
def base(request, tmp_path):
    return write_tower(tmp_path / "base", **({"custom_text": True} if request.param else {}))


def write_word_tokenizer(directory):
    """A Hugging Face tokenizer of whole words whose end token has the highest id."""
    names = ["<pad>", "<unk>", *WORDS, "<start>", "<end>"]
    words = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, "<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [(name, names.index(name)) for name in ("<start>", "<end>")]
    words.post_processor = processors.TemplateProcessing("<start> $A <end>", special_tokens=ends)
    PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>").save_pretrained(directory)
    return len(names)


def assert_same_weights(one, two):
    assert one.keys() == two.keys()
    for name in one:
        assert one[name].dtype == two[name].dtype, name
        assert torch.equal(one[name], two[name]), name


def test_a_base_computes_what_open_clip_computes(base):
    tower = load_tower(str(base))
    theirs = open_clip.create_model(f"local-dir:{base}").eval()
    tokens = open_clip.get_tokenizer(f"local-dir:{base}")(CAPTIONS)
    pictures = torch.randn(3, 3, 16, 16)
    assert tower.tokenizer(CAPTIONS).shape[1] < tokens.shape[1] == 77
    for ours, expected in (
        (tower.encode_text(tower.tokenizer(CAPTIONS)), theirs.encode_text(tokens)),
        (tower.encode_text(tokens, True), theirs.encode_text(tokens, normalize=True)),
        (tower.encode_image(pictures), theirs.encode_image(pictures)),
    ):
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)
    assert tower.scale().item() == pytest.approx(theirs.logit_scale.exp().item())


def test_a_base_is_saved_bit_for_bit_as_open_clip_knows_it(base, tmp_path):
    save_tower(load_tower(str(base)), tmp_path / "again")
    assert_same_weights(load_file(base / WEIGHTS), load_file(tmp_path / "again" / WEIGHTS))
    ours, again = (json.loads((d / CONFIG).read_text()) for d in (base, tmp_path / "again"))
    assert ours == again
    open_clip.create_model(f"local-dir:{tmp_path / 'again'}", require_pretrained=True)


def test_a_rotary_tower_reopens_bit_for_bit(base, tmp_path):
    tower = load_tower(str(base)).with_rotary_text(context_length=248, base=500.0)
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    save_tower(tower, tmp_path / "rotary")
    again = load_tower(str(tmp_path / "rotary"))
    assert_same_weights(tower.state_dict(), again.state_dict())
    assert (again.context_length, again.text.base) == (248, 500.0)
    tokens = again.tokenizer(["red cube " * 90])
    assert tokens.shape == (1, 182)
    assert again.tokenizer(["red cube " * 900]).shape == (1, 248)
    assert torch.equal(tower.encode_text(tokens), again.encode_text(tokens))
    names = load_file(tmp_path / "rotary" / WEIGHTS).keys()
    assert names == load_file(base / WEIGHTS).keys() - {
        "positional_embedding",
        "text.positional_embedding",
    }


def test_the_given_state_is_written_rather_than_the_live_weights(base, tmp_path):
    tower = load_tower(str(base))
    state = {name: torch.full_like(value, 0.5) for name, value in tower.state_dict().items()}
    save_tower(tower, tmp_path / "half", state)
    assert_same_weights(load_tower(str(tmp_path / "half")).state_dict(), state)


def test_a_hugging_face_tokenizer_travels_with_the_tower(tmp_path):
    size = write_word_tokenizer(tmp_path / "base")
    text = {**TEXT, "vocab_size": size, "hf_tokenizer_name": "."}
    write_tower(tmp_path / "base", text_cfg=text, custom_text=True)
    tower = load_tower(str(tmp_path / "base")).with_rotary_text(100, 10000.0)
    save_tower(tower, tmp_path / "rotary")
    (tmp_path / "base" / "tokenizer.json").unlink()
    again = load_tower(str(tmp_path / "rotary"))
    assert (
        again.tokenizer(["red cube", "ball"]).tolist()
        == tower.tokenizer(["red cube", "ball"]).tolist()
    )
    assert again.tokenizer(["red cube", "ball"]).shape == (2, 4)
    assert again.tokenizer(["red cube " * 80]).shape == (1, 100)


def test_the_temperature_is_held_at_100(base):
    tower = load_tower(str(base))
    with torch.no_grad():
        tower.logit_scale.fill_(6.0)
    scale = tower.scale()
    assert scale.item() == pytest.approx(100, abs=1e-3)
    scale.backward()
    assert tower.logit_scale.grad.item() > 0, "it must still be able to come down"
    assert tower.logit_scale.item() == pytest.approx(math.log(100))


def test_forward_gives_normalised_features_and_skips_empty_text_batches(base):
    tower = load_tower(str(base))
    tokens = tower.tokenizer(CAPTIONS)
    features, _ = tower(torch.randn(2, 3, 16, 16), [tokens, tokens[:0]])
    assert [len(part) for part in features] == [2, 3]
    for part in features:
        torch.testing.assert_close(part.norm(dim=1), torch.ones(len(part)))


def refused(name, error, *told):
    with pytest.raises(error) as caught:
        load_tower(str(name))
    for words in told:
        assert words in str(caught.value)


def test_what_cannot_be_opened_says_why_and_what_to_do(base, tmp_path):
    refused("no/such/dir", FileNotFoundError, "no/such/dir", "tower directory")
    refused("ViT-B-32", ValueError, "Say ViT-B-32:<tag>", "datacomp_xl_s13b_b90k")
    refused("ViT-L-14-336:openai", ValueError, "ViT-L-14-336-quickgelu:openai")
    refused(tmp_path, FileNotFoundError, str(tmp_path), CONFIG, "checkpoints")
    (base / WEIGHTS).rename(tmp_path / "kept")
    refused(base, FileNotFoundError, str(base), WEIGHTS, "Copy it there")
    (base / WEIGHTS).write_bytes((tmp_path / "kept").read_bytes()[:5000])
    refused(base, ValueError, str(base), "broken")
    (base / CONFIG).write_text("{")
    refused(base, ValueError, str(base / CONFIG), "is no json")


def test_a_rotary_tower_without_weights_is_refused(base, tmp_path):
    save_tower(load_tower(str(base)).with_rotary_text(248, 10000.0), tmp_path / "rotary")
    (tmp_path / "rotary" / WEIGHTS).unlink()
    refused(tmp_path / "rotary", FileNotFoundError, WEIGHTS)


def test_coca_is_refused():
    refused("coca_ViT-B-32:laion2b_s13b_b90k", ValueError, "no CLIP of one image and one text")


def test_tower_is_a_module_with_what_the_contract_names(base):
    tower = load_tower(str(base))
    assert isinstance(tower, Tower)
    assert {"visual", "text"} <= dict(tower.named_children()).keys()
    assert tower.context_length == 77


@pytest.mark.parametrize("name", ["plain", "rotary", "ViT-L-14-336-quickgelu:openai"])
def test_without_weights_it_has_shapes_alone(name, tmp_path):
    whole = None
    if name in ("plain", "rotary"):
        whole = load_tower(str(write_tower(tmp_path / "plain")))
        save_tower(whole.with_rotary_text(248, 10000.0), tmp_path / "rotary")
        name = str(tmp_path / name)
        whole = load_tower(name)
        for file in Path(name).glob("*.safetensors"):
            file.write_bytes(b"not read")
    outline = load_tower(name, weights=False)
    assert {tensor.device.type for tensor in outline.state_dict().values()} == {"meta"}
    if outline.context_length == 77:
        assert {p.device.type for p in outline.with_rotary_text(248, 1e4).parameters()} == {"meta"}
    if whole is not None:
        shapes = [{n: t.shape for n, t in t.state_dict().items()} for t in (whole, outline)]
        assert shapes[0] == shapes[1]
        assert outline.config == whole.config
        assert torch.equal(outline.tokenizer(["a red cube"]), whole.tokenizer(["a red cube"]))


@pytest.mark.parametrize("rotary", [False, True])
def test_captions_of_like_length_go_together_and_nothing_changes(rotary, tmp_path, monkeypatch):
    tower = load_tower(str(write_tower(tmp_path / "base")))
    if rotary:
        tower = tower.with_rotary_text(248, 10000.0)
    texts = [" ".join(WORDS[:length]) for length in (9, 1, 14, 3, 3, 12, 2, 8, 5)]
    tokens = tower.tokenizer(texts)
    pictures = torch.zeros(1, 3, 16, 16)
    expected = tower.encode_text(tokens, True)
    seen = []
    encode = tower.text.forward
    monkeypatch.setattr(tower.text, "forward", lambda told: seen.append(told.shape) or encode(told))
    (_, found), _ = tower(pictures, [tokens])
    assert torch.allclose(found, expected, atol=1e-6)
    # Of 9 rows 3 groups of 3: the longest of each, with start and end.
    assert [tuple(shape) for shape in seen] == [(3, 5), (3, 10), (3, 16)]
    weights = [weight for name, weight in tower.text.named_parameters() if name != "logit_scale"]
    one, other = (
        torch.cat([g.flatten() for g in torch.autograd.grad(told.sum(), weights)])
        for told in (found, expected)
    )
    assert (one - other).norm() < 1e-6 * other.norm()
