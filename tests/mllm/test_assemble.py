import json
import shutil

import pytest
import torch
from safetensors import safe_open
from torch.nn import functional
from transformers import (
    AutoModelForCausalLM,
    AutoProcessor,
    AutoTokenizer,
    CLIPImageProcessor,
    CLIPVisionModel,
    LlavaForConditionalGeneration,
    LlavaImageProcessor,
    SiglipImageProcessor,
)

from mllm.assemble import assemble
from mllm.processor import image_token_count
from tests.tiny_llava import IMAGE_SIZE, PATCH_SIZE, picture


def test_the_directory_is_stock_and_loses_no_weight(llava):
    model, report = LlavaForConditionalGeneration.from_pretrained(llava, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert not report["mismatched_keys"]
    assert sorted(path.name for path in llava.iterdir()) == [
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "processor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert model.config.vision_feature_layer == -2
    assert model.config.image_seq_length == image_token_count(model.config) == 4


def test_the_parts_are_named_for_those_who_open_them_apart(llava):
    """vLLM and llama.cpp choose a language model's code by this name."""
    config = json.loads((llava / "config.json").read_text())
    assert (config["model_type"], config["architectures"]) == (
        "llava",
        ["LlavaForConditionalGeneration"],
    )
    assert config["text_config"]["architectures"] == ["LlamaForCausalLM"]
    assert config["vision_config"]["model_type"] == "clip_vision_model"


@pytest.mark.parametrize("family", ["llava", "siglip_llava"])
def test_weights_have_the_names_of_the_hubs_llavas(request, family, tmp_path):
    """transformers 4, vLLM and llama.cpp know no others; and every later stage keeps them."""
    directory = request.getfixturevalue(family)
    model = LlavaForConditionalGeneration.from_pretrained(directory)
    model.save_pretrained(tmp_path)
    for folder in (directory, tmp_path):
        with safe_open(folder / "model.safetensors", "pt") as weights:
            names = list(weights.keys())
        tower = [name for name in names if name.startswith("vision_tower.vision_model.")]
        rest = ("language_model.model.", "language_model.lm_head.", "multi_modal_projector.")
        assert tower
        assert all(name in tower or name.startswith(rest) for name in names)


def test_the_parts_keep_their_weights(llava, parts):
    model = LlavaForConditionalGeneration.from_pretrained(llava)
    tower = CLIPVisionModel.from_pretrained(parts[0] / "vision")
    for name, tensor in tower.state_dict().items():
        assert torch.equal(model.model.vision_tower.state_dict()[name], tensor), name
    text = AutoModelForCausalLM.from_pretrained(parts[2])
    rows = text.get_input_embeddings().weight.shape[0]
    assert torch.equal(model.get_input_embeddings().weight[:rows], text.model.embed_tokens.weight)
    assert torch.equal(model.lm_head.weight[:rows], text.lm_head.weight)
    for name, tensor in text.model.layers.state_dict().items():
        assert torch.equal(model.model.language_model.layers.state_dict()[name], tensor), name


def test_new_rows_start_at_the_mean_and_fill_a_multiple_of_64(llava, parts):
    model = LlavaForConditionalGeneration.from_pretrained(llava)
    old = AutoModelForCausalLM.from_pretrained(parts[2]).lm_head.weight
    new = model.lm_head.weight
    assert len(new) % 64 == 0
    assert len(new) > len(old)
    torch.testing.assert_close(new[len(old) :], old.mean(0).expand(len(new) - len(old), -1))
    assert model.config.image_token_index == len(AutoTokenizer.from_pretrained(parts[2]))


def test_a_token_that_exists_and_rows_that_suffice_are_kept(parts, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(parts[2])
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    text = AutoModelForCausalLM.from_pretrained(parts[2])
    text.resize_token_embeddings(len(tokenizer))
    text.generation_config.temperature = text.generation_config.top_p = None
    text.save_pretrained(tmp_path / "llm")
    tokenizer.save_pretrained(tmp_path / "llm")
    assemble(str(parts[0]), str(tmp_path / "llm"), tmp_path / "mllm", system="")
    model = LlavaForConditionalGeneration.from_pretrained(tmp_path / "mllm")
    assert len(model.lm_head.weight) == len(tokenizer)
    assert model.config.image_token_index == tokenizer.convert_tokens_to_ids("<image>")


def test_tied_embeddings_stay_tied(parts, tmp_path):
    text = AutoModelForCausalLM.from_pretrained(parts[2], tie_word_embeddings=True)
    text.generation_config.temperature = text.generation_config.top_p = None
    text.save_pretrained(tmp_path / "llm")
    AutoTokenizer.from_pretrained(parts[2]).save_pretrained(tmp_path / "llm")
    assemble(str(parts[0]), str(tmp_path / "llm"), tmp_path / "mllm", system="")
    model = LlavaForConditionalGeneration.from_pretrained(tmp_path / "mllm")
    assert model.lm_head.weight is model.get_input_embeddings().weight


def test_the_projector_depends_on_the_seed_alone(parts, tmp_path):
    def projector(name, seed):
        torch.manual_seed(hash(name) % 1000)
        assemble(str(parts[0]), str(parts[2]), tmp_path / name, seed=seed)
        model = LlavaForConditionalGeneration.from_pretrained(tmp_path / name)
        return model.model.multi_modal_projector.linear_1.weight

    assert torch.equal(projector("a", 3), projector("b", 3))
    assert not torch.equal(projector("c", 3), projector("d", 4))


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_image_features_are_the_penultimate_layers_patches(family, llava, siglip_llava):
    directory = llava if family == "clip" else siglip_llava
    model = LlavaForConditionalGeneration.from_pretrained(directory).eval()
    processor = AutoProcessor.from_pretrained(directory)
    pixels = processor.image_processor(picture(0), return_tensors="pt")["pixel_values"]
    tower, projector = model.model.vision_tower, model.model.multi_modal_projector
    with torch.no_grad():
        hidden = tower.embeddings(pixels)
        if family == "clip":
            hidden = tower.pre_layrnorm(hidden)
        for layer in tower.encoder.layers[:-1]:
            hidden = layer(hidden, attention_mask=None)
        patches = hidden[:, 1:] if family == "clip" else hidden
        by_hand = projector.linear_2(functional.gelu(projector.linear_1(patches)))
        ours = torch.stack(list(model.get_image_features(pixels).pooler_output))
    torch.testing.assert_close(ours, by_hand)
    assert ours.shape[1] == (IMAGE_SIZE // PATCH_SIZE) ** 2


def test_square_pictures_are_preprocessed_as_by_the_tower(llava, parts):
    ours = AutoProcessor.from_pretrained(llava).image_processor
    towers = CLIPImageProcessor.from_pretrained(parts[0] / "vision")
    image = picture(1, 40, 40)
    assert torch.equal(
        ours(image, return_tensors="pt")["pixel_values"],
        towers(image, return_tensors="pt")["pixel_values"],
    )


def test_a_wide_picture_is_padded_with_the_mean_colour_not_cropped(llava):
    processor = AutoProcessor.from_pretrained(llava).image_processor
    assert isinstance(processor, LlavaImageProcessor)
    pixels = processor(picture(1, 64, 16), return_tensors="pt")["pixel_values"][0]
    assert pixels.shape == (3, IMAGE_SIZE, IMAGE_SIZE)
    # 16 of 64 rows hold the picture: rows 0-5 and 10-15 of 16 are padding, near zero = mean colour.
    assert pixels[:, :4].abs().max() < 0.02
    assert pixels[:, 7:9].abs().max() > 0.2


def test_siglip_keeps_its_own_squashing(siglip_llava):
    assert isinstance(
        AutoProcessor.from_pretrained(siglip_llava).image_processor, SiglipImageProcessor
    )


def test_generation_is_greedy_and_can_be_saved_again(llava, tmp_path):
    settings = json.loads((llava / "generation_config.json").read_text())
    assert settings["do_sample"] is False
    assert settings["eos_token_id"] == [2]
    assert "temperature" not in settings
    LlavaForConditionalGeneration.from_pretrained(llava).save_pretrained(tmp_path / "again")


def test_every_stop_token_of_the_language_model_stays(parts, tmp_path):
    shutil.copytree(parts[2], tmp_path / "llm")
    (tmp_path / "llm/generation_config.json").write_text(json.dumps({"eos_token_id": [2, 7]}))
    assemble(str(parts[0]), str(tmp_path / "llm"), tmp_path / "mllm")
    assert json.loads((tmp_path / "mllm/generation_config.json").read_text())["eos_token_id"] == [
        2,
        7,
    ]


def test_a_directory_that_is_no_tower_is_refused(parts, tmp_path):
    with pytest.raises(ValueError, match="is no vision tower"):
        assemble(str(tmp_path), str(parts[2]), tmp_path / "mllm")


def test_a_model_of_another_kind_is_refused(parts, tmp_path):
    with pytest.raises(ValueError, match="is a 'llama' model"):
        assemble(str(parts[2]), str(parts[2]), tmp_path / "mllm")


def test_a_tower_with_missing_weights_is_refused(parts, tmp_path):
    from safetensors.torch import load_file, save_file

    shutil.copytree(parts[0], tmp_path / "tower")
    weights = tmp_path / "tower/vision/model.safetensors"
    state = load_file(weights)
    del state["encoder.layers.0.mlp.fc1.weight"]
    save_file(state, weights, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks 1 weights.*encoder\.layers\.0\.mlp\.fc1\.weight"):
        assemble(str(tmp_path / "tower"), str(parts[2]), tmp_path / "mllm")
    assert not (tmp_path / "mllm").exists()


@pytest.mark.parametrize("left", [0, 100])
def test_a_tower_whose_weights_are_gone_or_cut_off_is_refused(parts, tmp_path, left):
    shutil.copytree(parts[0], tmp_path / "tower")
    weights = tmp_path / "tower/vision/model.safetensors"
    kept = weights.read_bytes()[:left]
    weights.unlink()
    if kept:
        weights.write_bytes(kept)
    with pytest.raises(ValueError, match=r"tower/vision holds no weights.*export or copy it again"):
        assemble(str(tmp_path / "tower"), str(parts[2]), tmp_path / "mllm")
