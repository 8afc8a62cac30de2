import math
from functools import partial

import open_clip
import pytest
import torch
from open_clip.transformer import QuickGELU, TextTransformer
from torch import nn

from tests.naive_text import naive_encode, tanh_gelu
from vision_tower.rotary_text import RotaryTextEncoder, ntk_base, rotary_angles, rotate

SIZES = {"context_length": 77, "vocab_size": 100, "width": 16, "heads": 2, "layers": 3}
EOT = 99


@pytest.fixture
def teacher():
    torch.manual_seed(0)
    text = TextTransformer(**SIZES, output_dim=12, act_layer=QuickGELU)
    for parameter in text.parameters():
        nn.init.normal_(parameter, std=0.3)
    return text.eval()


def captions(lengths, total=None):
    """Token ids 1..98 of the given lengths, each closed by EOT and followed by zeros."""
    token_BL = torch.zeros(len(lengths), total or max(lengths), dtype=torch.long)
    generator = torch.Generator().manual_seed(1)
    for row, length in zip(token_BL, lengths, strict=True):
        row[: length - 1] = torch.randint(1, 98, (length - 1,), generator=generator)
        row[length - 1] = EOT
    return token_BL


@pytest.fixture
def siglip_teacher():
    """As SigLIP 2's: looks both ways, is pooled at the last place, projects with a bias."""
    torch.manual_seed(0)
    both_ways = {"no_causal_mask": True, "pool_type": "last", "proj_bias": True}
    tanh = partial(nn.GELU, approximate="tanh")
    text = TextTransformer(**SIZES, **both_ways, output_dim=12, act_layer=tanh)
    for parameter in text.parameters():
        nn.init.normal_(parameter, std=0.3)
    return text.eval()


def test_angles_are_plain_rope():
    cos, sin = rotary_angles(5, 8, 10000.0, torch.device("cpu"))
    assert cos.shape == (5, 4)
    assert cos[3, 1].item() == pytest.approx(math.cos(3 * 10000 ** (-2 / 8)), abs=1e-6)
    assert sin[4, 0].item() == pytest.approx(math.sin(4.0), abs=1e-6)


def test_ntk_scaling_raises_the_base():
    # 8 * 30 / 10 - 7 = 17, to the power of 4 / 2
    assert ntk_base(100.0, 4, 10, 30, factor=8) == pytest.approx(28900)
    assert ntk_base(10000.0, 64, 77, 248, factor=8) == pytest.approx(206_278, rel=1e-5)
    assert ntk_base(10000.0, 64, 77, 248, factor=0) == 10000.0
    assert ntk_base(10000.0, 64, 248, 248, factor=8) == 10000.0
    with pytest.raises(ValueError, match="0 \\(off\\) or above, not -1"):
        ntk_base(10000.0, 64, 77, 248, factor=-1)


def test_ntk_scaling_slows_the_slowest_pair_alone_by_the_whole_factor():
    before, after = (
        torch.atan2(*rotary_angles(2, 8, base, torch.device("cpu"))[::-1])[1]
        for base in (50.0, ntk_base(50.0, 8, 10, 30, factor=1))
    )
    assert (before / after)[[0, -1]].tolist() == pytest.approx([1, 3], rel=1e-5)


def test_rotation_turns_adjacent_pairs():
    cos, sin = rotary_angles(2, 4, 100.0, torch.device("cpu"))
    turned = rotate(torch.tensor([[1.0, 0.0, 0.0, 1.0]] * 2), cos, sin)
    assert turned[0].tolist() == [1.0, 0.0, 0.0, 1.0]
    expected = [math.cos(1), math.sin(1), -math.sin(0.1), math.cos(0.1)]
    assert turned[1].tolist() == pytest.approx(expected, abs=1e-6)


def test_only_distance_matters_between_query_and_key():
    cos, sin = rotary_angles(200, 16, 10000.0, torch.device("cpu"))
    query, key = torch.randn(16), torch.randn(16)
    q, k = rotate(query.expand(200, 16), cos, sin), rotate(key.expand(200, 16), cos, sin)
    for distance in (0, 3, 50):
        scores = [(q[m + distance] @ k[m]).item() for m in (0, 7, 100, 149)]
        assert scores == pytest.approx([scores[0]] * 4, abs=1e-4)


def test_rotation_is_fp32_in_bf16_models():
    cos, sin = rotary_angles(248, 8, 10000.0, torch.device("cpu"))
    x = torch.randn(248, 8).bfloat16()
    assert torch.equal(rotate(x, cos, sin), rotate(x.float(), cos, sin).bfloat16())


def test_takes_over_the_teacher(teacher):
    student = RotaryTextEncoder(teacher, context_length=248)
    ours, theirs = student.state_dict(), teacher.state_dict()
    assert theirs.keys() - ours.keys() == {"positional_embedding"}
    assert not ours.keys() - theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert isinstance(student.transformer.resblocks[0].mlp.gelu, QuickGELU)
    ours["token_embedding.weight"].zero_()
    assert theirs["token_embedding.weight"].abs().sum() > 0, "the copy must not share memory"


@pytest.mark.parametrize("lengths", [[2, 5, 11], [248]])
def test_encodes_as_an_independent_implementation(teacher, lengths):
    student = RotaryTextEncoder(teacher, context_length=248).eval()
    token_BL = captions(lengths)
    with torch.no_grad():
        told = student(token_BL)
        expected = torch.stack(
            [naive_encode(student.state_dict(), row, heads=2, base=10000.0) for row in token_BL]
        )
    torch.testing.assert_close(told, expected, rtol=1e-4, atol=1e-4)


def test_encodes_both_ways_as_an_independent_implementation(siglip_teacher):
    student = RotaryTextEncoder(siglip_teacher, context_length=248).eval()
    assert siglip_teacher.state_dict().keys() - student.state_dict() == {"positional_embedding"}
    token_BL = captions([2, 5, 11], total=30)
    with torch.no_grad():
        told = student(token_BL)
        state = student.state_dict()
        expected = torch.stack(
            [naive_encode(state, row, 2, 10000.0, False, tanh_gelu) for row in token_BL]
        )
    torch.testing.assert_close(told, expected, rtol=1e-4, atol=1e-4)


def test_padding_and_what_follows_the_end_token_have_no_influence(teacher):
    student = RotaryTextEncoder(teacher, context_length=248).eval()
    trimmed, padded = captions([4, 9, 6]), captions([4, 9, 6], total=40)
    noisy = padded.clone()
    noisy[0, 4:] = 7
    for other in (padded, noisy):
        torch.testing.assert_close(student(trimmed), student(other), rtol=1e-5, atol=1e-5)


def test_order_of_words_matters(teacher):
    student = RotaryTextEncoder(teacher, context_length=248).eval()
    one, two = torch.tensor([[5, 6, 7, EOT]]), torch.tensor([[7, 6, 5, EOT]])
    assert (student(one) - student(two)).abs().max() > 1e-3


def test_activation_checkpointing_changes_no_gradient(teacher):
    gradients = []
    for enable in (False, True):
        student = RotaryTextEncoder(teacher, context_length=248).train()
        student.set_grad_checkpointing(enable)
        student(captions([4, 9])).square().sum().backward()
        gradients.append(student.transformer.resblocks[0].attn.in_proj_weight.grad)
    torch.testing.assert_close(*gradients)


def test_eos_pooling_is_taken_over(teacher):
    teacher.pool_type, teacher.eos_id = "eos", 50
    student = RotaryTextEncoder(teacher, context_length=248).eval()
    row = torch.tensor([[3, 50, 98, 4]])
    torch.testing.assert_close(student(row), student(torch.tensor([[3, 50]])))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"no_causal_mask": True, "use_pad_mask": True}, "neither CLIP's nor SigLIP's"),
        ({"embed_cls": True}, "neither CLIP's nor SigLIP's"),
        ({"no_causal_mask": True}, "pools by 'argmax'"),
        ({"pool_type": "last"}, "pools by 'last'"),
        ({"proj_type": "none"}, "no text projection"),
        ({"ls_init_value": 0.1}, "more than attention"),
        ({"qk_norm": True}, "more than attention"),
    ],
)
def test_refuses_what_it_cannot_stand_in_for(changes, reason):
    with pytest.raises(ValueError, match=reason):
        RotaryTextEncoder(TextTransformer(**SIZES, output_dim=12, **changes), 248)


def test_refuses_another_kind_of_text_encoder():
    with pytest.raises(ValueError, match="it is a Linear, not open_clip's own"):
        RotaryTextEncoder(nn.Linear(2, 2), 248)


def test_fits_the_text_encoder_of_the_real_base():
    model_cfg = open_clip.get_model_config("ViT-L-14-336-quickgelu")
    sizes = {**model_cfg["text_cfg"], "layers": 1}
    text = TextTransformer(**sizes, output_dim=model_cfg["embed_dim"], act_layer=QuickGELU)
    assert RotaryTextEncoder(text, 248)(torch.tensor([[49406, 320, 49407]])).shape == (1, 768)
