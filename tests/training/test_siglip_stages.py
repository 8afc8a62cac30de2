"""Stages 1 and 2 on a SigLIP: timm's image tower, a text encoder that looks both ways."""

import json

import open_clip
import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoModel, PreTrainedTokenizerFast, SiglipVisionModel

from tests.tiny_tower import WORDS, write_captions, write_edits
from training import adapt_text_encoder, train_vision_tower
from vision_tower.towers import load_tower

TEXT = {
    **{"context_length": 16, "vocab_size": len(WORDS) + 3, "width": 16, "heads": 2, "layers": 2},
    **{"no_causal_mask": True, "proj_bias": True, "pool_type": "last"},
    **{"hf_tokenizer_name": ".", "tokenizer_kwargs": {"clean": "canonicalize"}},
}
PREPROCESS = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic"}


@timm.models.register_model
def vit_fovea_test_siglip(pretrained: bool, pretrained_cfg, **changes) -> VisionTransformer:
    """Of the form of vit_so400m_patch14_siglip_224, a few thousand parameters large."""
    sizes = {"img_size": 16, "patch_size": 8, "embed_dim": 12, "depth": 2, "num_heads": 2}
    form = {"class_token": False, "global_pool": "map", "act_layer": "gelu_tanh"}
    return VisionTransformer(**(sizes | form | {"num_classes": changes["num_classes"]}))


@pytest.fixture(scope="module")
def siglip(tmp_path_factory):
    directory = tmp_path_factory.mktemp("siglip")
    words = {word: number for number, word in enumerate(["<pad>", "</s>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        "$A </s>", special_tokens=[("</s>", 1)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(directory)
    vision = {"timm_model_name": "vit_fovea_test_siglip", "image_size": 16}
    vision |= {"timm_model_pretrained": False, "timm_pool": "map", "timm_proj": "none"}
    model_cfg = {"embed_dim": 12, "init_logit_bias": -10, "vision_cfg": vision, "text_cfg": TEXT}
    torch.manual_seed(0)
    model = open_clip.CustomTextCLIP(**model_cfg)
    save_file(
        {name: tensor.contiguous() for name, tensor in model.state_dict().items()},
        directory / "open_clip_model.safetensors",
    )
    config = {"model_cfg": {**model_cfg, "custom_text": True}}
    config["preprocess_cfg"] = {**PREPROCESS, "resize_mode": "squash", "fill_color": 0}
    (directory / "open_clip_config.json").write_text(json.dumps(config))
    return directory


@pytest.mark.parametrize("match", ["softmax", "sigmoid"])
def test_a_siglip_goes_through_both_stages(match, siglip, tmp_path):
    captions = write_captions(tmp_path, 24)
    common = ["--captions", str(captions), "--use_cpu", "--disable_tqdm", "True"]
    common += ["--report_to", "none", "--max_steps", "3", "--warmup_steps", "1"]
    common += ["--per_device_train_batch_size", "6"]
    adapt_text_encoder.main(
        [*common, "--tower", str(siglip), "--output_dir", str(tmp_path / "rotary")]
    )
    rotary = load_tower(str(tmp_path / "rotary"))
    assert rotary.tokenizer(["red"]).shape == (1, 248), "it looks at the padding: none may be cut"
    train_vision_tower.main(
        [
            *(*common, "--tower", str(tmp_path / "rotary"), "--match", match),
            *("--edits", str(write_edits(tmp_path / "edits.parquet", 8)), "--edit_batch_size", "4"),
            *("--output_dir", str(tmp_path / "tower")),
        ]
    )
    tower = load_tower(str(tmp_path / "tower"))
    assert torch.equal(tower.logit_bias, rotary.logit_bias) == (match == "softmax")
    assert tower.scale() != rotary.scale()
    exported = AutoModel.from_pretrained(tmp_path / "tower" / "vision")
    assert isinstance(exported, SiglipVisionModel)
    pictures = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        embedding = tower.encode_image(pictures)
        torch.testing.assert_close(exported(pictures).pooler_output, embedding, rtol=0, atol=1e-5)


def test_student_and_teacher_read_the_same_words(siglip):
    """What the teacher cut, the student sees with the padding that it always has."""
    teacher = load_tower(str(siglip))
    student = teacher.with_rotary_text(40, 10000.0)
    caption = " ".join(WORDS * 3)  # 45 words, of which the teacher reads 15 and the end
    cut = teacher.tokenizer([caption, "red"])
    padded = student.tokenizer.padded(cut)
    assert cut.shape == (2, 16)
    assert cut[0, -1] == 1, "the end token stays"
    assert padded.shape == (2, 40)
    assert torch.equal(padded[:, :16], cut)
    assert (padded[:, 16:] == 0).all()
    assert torch.equal(padded[1], student.tokenizer(["red"])[0])


def test_a_shorter_window_is_refused(siglip):
    with pytest.raises(ValueError, match="context_length 8 is below the tower's own 16"):
        load_tower(str(siglip)).with_rotary_text(8, 10000.0)
