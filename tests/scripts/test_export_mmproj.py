"""The file that llama.cpp reads, read again; where `gguf` is installed."""

import numpy as np
import pytest
from transformers import LlavaForConditionalGeneration

from mllm.assemble import assemble
from tests.tiny_llava import write_language_model, write_tower

gguf = pytest.importorskip("gguf")
from scripts.export_mmproj import write_mmproj  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("mmproj")
    llm = write_language_model(root / "llm")
    for family in ("clip", "siglip"):
        tower = write_tower(root / f"{family}-tower", family)
        assemble(str(tower), str(llm), root / family, system="")
    return root


@pytest.fixture(scope="module")
def written(folder):
    write_mmproj(folder / "clip", folder / "mmproj.gguf")
    return gguf.GGUFReader(folder / "mmproj.gguf")


def test_settings_are_the_models(written):
    told = {name: field.contents() for name, field in written.fields.items()}
    assert told["general.architecture"] == "clip"
    assert told["clip.projector_type"] == "mlp"
    # Features of the last layer but one, of three.
    assert told["clip.vision.block_count"] == 2
    assert told["clip.vision.feature_layer"] == [2]
    sizes = ("image_size", "patch_size", "embedding_length", "feed_forward_length")
    assert [told[f"clip.vision.{name}"] for name in sizes] == [16, 8, 24, 48]
    assert told["clip.vision.projection_dim"] == 32
    assert told["clip.vision.attention.head_count"] == 2
    assert told["clip.use_gelu"] is False  # quick_gelu
    assert told["clip.vision.image_mean"] == pytest.approx([0.4814547, 0.4578275, 0.4082107])


def test_every_weight_that_is_read_is_there_under_llama_cpps_name(written, folder):
    model = LlavaForConditionalGeneration.from_pretrained(folder / "clip").model
    tower, projector = model.vision_tower, model.multi_modal_projector
    found = {tensor.name: tensor.data for tensor in written.tensors}
    layer = tower.encoder.layers[1]
    expected = {
        "v.class_embd": tower.embeddings.class_embedding,
        "v.patch_embd.weight": tower.embeddings.patch_embedding.weight,
        "v.position_embd.weight": tower.embeddings.position_embedding.weight,
        "v.pre_ln.bias": tower.pre_layrnorm.bias,
        "v.blk.1.attn_q.weight": layer.self_attn.q_proj.weight,
        "v.blk.1.attn_out.weight": layer.self_attn.out_proj.weight,
        "v.blk.1.ln2.weight": layer.layer_norm2.weight,
        "v.blk.1.ffn_up.weight": layer.mlp.fc1.weight,
        "v.blk.1.ffn_down.weight": layer.mlp.fc2.weight,
        "mm.0.weight": projector.linear_1.weight,
        "mm.2.bias": projector.linear_2.bias,
    }
    for name, tensor in expected.items():
        kind = np.float16 if tensor.ndim > 1 else np.float32
        assert found[name].dtype == kind
        assert np.array_equal(found[name], tensor.detach().numpy().astype(kind)), name
    # Five of the embeddings and the norm before, 16 of each of two layers, four of the projector.
    assert len(found) == 5 + 2 * 16 + 4


@pytest.mark.parametrize(("changes", "told"), [
    ({"projector_hidden_act": "relu"}, "gelu in a projector, not quick_gelu and relu"),
    ({"vision_feature_layer": [-2, -1]}, r"patches of one layer.*\[-2, -1\]"),
    ({"vision_feature_select_strategy": "full"}, "without the class token.*'full'"),
])  # fmt: skip
def test_what_llama_cpp_would_compute_otherwise_is_refused(changes, told, folder, monkeypatch):
    load = LlavaForConditionalGeneration.from_pretrained

    def changed(*args, **kwargs):
        model = load(*args, **kwargs)
        for name, value in changes.items():
            setattr(model.config, name, value)
        return model

    monkeypatch.setattr(LlavaForConditionalGeneration, "from_pretrained", changed)
    with pytest.raises(ValueError, match=told):
        write_mmproj(folder / "clip", folder / "no.gguf")


def test_a_siglip_tower_is_refused(folder):
    with pytest.raises(ValueError, match=r"'siglip_vision_model': llama\.cpp pads"):
        write_mmproj(folder / "siglip", folder / "no.gguf")
    assert not (folder / "no.gguf").exists()
