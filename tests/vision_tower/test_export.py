import numpy as np
import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from safetensors import safe_open
from torch import nn
from transformers import AutoImageProcessor, AutoModel, CLIPVisionModel

from tests.tiny_tower import PREPROCESS, VISION, write_tower
from vision_tower import export_clip, export_siglip
from vision_tower.export import check_exportable, vision_model
from vision_tower.towers import load_tower, save_tower


def open_clip_visual(name=None, **changes):
    torch.manual_seed(0)
    text = {"context_length": 8, "vocab_size": 10, "width": 8, "heads": 1, "layers": 1}
    model_cfg = open_clip.get_model_config(name) if name else {"embed_dim": 12}
    vision = model_cfg.get("vision_cfg", VISION) | changes
    model = open_clip.CLIP(
        model_cfg["embed_dim"], vision, text, quick_gelu=model_cfg.get("quick_gelu", False)
    )
    return model.visual.eval()


def assert_parity(visual):
    """Embedding, and the features LLaVA reads (the output of the last block but one)."""
    pictures = torch.randn(2, 3, *visual.image_size)
    exported = vision_model(visual, visual.state_dict())
    blocks = len(visual.transformer.resblocks)
    with torch.no_grad():
        told = exported(pictures, output_hidden_states=True)
        expected = visual.forward_intermediates(
            pictures, indices=[blocks - 2], output_fmt="NLC", output_extra_tokens=True
        )
        embedding = told.pooler_output @ visual.proj
    patches = torch.cat(
        (expected["image_intermediates_prefix"][0], expected["image_intermediates"][0]), dim=1
    )
    torch.testing.assert_close(embedding, visual(pictures), rtol=0, atol=1e-5)
    torch.testing.assert_close(told.hidden_states[-2], patches, rtol=0, atol=1e-5)


@pytest.mark.parametrize("quick_gelu", [False, True])
def test_a_tiny_vit_computes_the_same(quick_gelu):
    torch.manual_seed(0)
    visual = open_clip.CLIP(
        12, VISION | {"layers": 3, "mlp_ratio": 3.0}, {"layers": 1}, quick_gelu=quick_gelu
    ).visual.eval()
    for parameter in visual.parameters():
        nn.init.normal_(parameter, std=0.2)
    assert vision_model(visual, visual.state_dict()).config.hidden_act == (
        "quick_gelu" if quick_gelu else "gelu"
    )
    assert_parity(visual)


@pytest.mark.slow
def test_the_openai_vit_l_14_336_computes_the_same():
    assert_parity(open_clip_visual("ViT-L-14-336-quickgelu"))


def test_the_saved_tower_opens_in_transformers_alone(tmp_path):
    tower = load_tower(str(write_tower(tmp_path / "base")))
    save_tower(tower, tmp_path / "tower")
    exported = AutoModel.from_pretrained(tmp_path / "tower" / "vision")
    assert isinstance(exported, CLIPVisionModel)
    with safe_open(tmp_path / "tower/vision/model.safetensors", "pt") as weights:
        assert all(name.startswith("vision_model.") for name in weights.keys())  # noqa: SIM118
    processor = AutoImageProcessor.from_pretrained(tmp_path / "tower" / "vision")
    picture = Image.fromarray(
        np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    )
    pixel_values = processor(picture, return_tensors="pt").pixel_values
    torch.testing.assert_close(pixel_values[0], tower.preprocess(picture), rtol=0, atol=1e-5)
    features = exported(pixel_values).pooler_output @ tower.visual.proj
    torch.testing.assert_close(features, tower.encode_image(pixel_values), rtol=0, atol=1e-5)


@pytest.mark.parametrize("resize_mode", ["shortest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_the_image_processor_is_the_eval_transform(resize_mode, interpolation):
    preprocess = PREPROCESS | {"resize_mode": resize_mode, "interpolation": interpolation}
    y, x = np.mgrid[0:60, 0:90]
    smooth = np.stack([y * 4, x * 2, 255 - x - y], axis=-1).astype(np.uint8)
    transform = image_transform_v2(PreprocessCfg(size=(16, 16), **preprocess), is_train=False)
    expected = transform(Image.fromarray(smooth))
    told = export_clip.image_processor(open_clip_visual(), preprocess)(
        Image.fromarray(smooth), return_tensors="pt"
    )
    # One grey level of rounding apart: PIL and torchvision resize in different integers.
    assert (told.pixel_values[0] - expected).abs().max() < 1.5 / 255 / min(preprocess["std"])


def test_a_resize_mode_without_counterpart_is_refused():
    with pytest.raises(ValueError, match="'longest' has no CLIPImageProcessor"):
        export_clip.image_processor(open_clip_visual(), PREPROCESS | {"resize_mode": "longest"})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"layers": [1, 1, 1, 1], "width": 8, "head_width": 8, "image_size": 32}, "ModifiedResNet"),
        ({"pool_type": "avg"}, "class token"),
        ({"attentional_pool": True, "attn_pooler_heads": 2}, "class token"),
        ({"no_ln_pre": True}, "no norm before"),
        ({"ls_init_value": 0.1}, "more than attention"),
        ({"qk_norm": True}, "more than attention"),
        ({"image_size": [16, 24]}, "not square"),
    ],
)
def test_what_cannot_be_exported_says_why(changes, reason):
    with pytest.raises(ValueError, match=reason):
        check_exportable(open_clip_visual(**changes), PREPROCESS)


def siglip_visual(name, **changes):
    torch.manual_seed(0)
    model_cfg = open_clip.get_model_config(name)
    text = {"context_length": 8, "vocab_size": 10, "width": 8, "heads": 1, "layers": 1}
    vision = model_cfg["vision_cfg"] | changes
    return open_clip.CLIP(model_cfg["embed_dim"], vision, text).visual.eval()


def assert_siglip_parity(visual):
    """Pooled embedding, and the features LLaVA reads (the output of the last block but one)."""
    pictures = torch.randn(2, 3, *visual.image_size)
    for parameter in visual.parameters():  # timm's bias is 0, which any mapping would have right
        parameter.data += 0.02 * torch.randn_like(parameter)
    exported = vision_model(visual, visual.state_dict())
    with torch.no_grad():
        told = exported(pictures, output_hidden_states=True)
        patches = visual.trunk.forward_intermediates(
            pictures,
            indices=[len(visual.trunk.blocks) - 2],
            output_fmt="NLC",
            intermediates_only=True,
        )[0]
        torch.testing.assert_close(told.pooler_output, visual(pictures), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(told.hidden_states[-2], patches, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["ViT-B-16-SigLIP", "ViT-B-32-SigLIP2-256"])
def test_a_siglip_computes_the_same(name):
    visual = siglip_visual(name)
    expected = {"ViT-B-16-SigLIP": "gelu", "ViT-B-32-SigLIP2-256": "gelu_pytorch_tanh"}[name]
    assert export_siglip.vision_config(visual).hidden_act == expected
    assert_siglip_parity(visual)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ViT-SO400M-14-SigLIP-384", "ViT-SO400M-16-SigLIP2-384"])
def test_a_siglip_so400m_computes_the_same(name):
    assert_siglip_parity(siglip_visual(name))


def test_siglips_image_processor_squashes_as_the_eval_transform():
    preprocess = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic"}
    preprocess |= {"resize_mode": "squash", "fill_color": 0}
    y, x = np.mgrid[0:300, 0:450]
    picture = Image.fromarray(np.stack([y // 2, x // 2, 255 - y // 2], axis=-1).astype(np.uint8))
    visual = siglip_visual("ViT-B-16-SigLIP")
    transform = image_transform_v2(PreprocessCfg(size=visual.image_size, **preprocess), False)
    told = export_siglip.image_processor(visual, preprocess)(picture, return_tensors="pt")
    assert (told.pixel_values[0] - transform(picture)).abs().max() < 1.5 / 255 / 0.5
    with pytest.raises(ValueError, match="'shortest' has no SiglipImageProcessor"):
        check_exportable(visual, preprocess | {"resize_mode": "shortest"})


@pytest.mark.parametrize(
    ("name", "reason"),
    [("vit_tiny_patch16_224", "pool by attention"), ("resnet18", "it is timm's ResNet")],
)
def test_other_timm_towers_say_why_they_are_refused(name, reason):
    vision = {"timm_model_name": name, "image_size": 224}
    visual = open_clip.CLIP(12, vision, {"layers": 1, "width": 8, "heads": 1}).visual
    with pytest.raises(ValueError, match=reason):
        check_exportable(visual, PREPROCESS | {"resize_mode": "squash"})
