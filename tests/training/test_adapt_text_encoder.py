import json

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.tiny_tower import sentence, write_captions, write_tower
from training.adapt_text_encoder import AdaptTextEncoder, main
from vision_tower.towers import load_tower


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    data = tmp_path_factory.mktemp("stage1")
    base, captions = write_tower(data / "base"), write_captions(data, 400)
    output_dir = data / "rotary"
    flags = [
        *("--tower", str(base), "--captions", str(captions), "--output_dir", str(output_dir)),
        *("--max_steps", "150", "--warmup_steps", "10", "--learning_rate", "0.005"),
        *("--per_device_train_batch_size", "32", "--use_cpu", "--report_to", "none"),
        *("--context_length", "120", "--rotary_base", "5000", "--disable_tqdm", "True"),
    ]
    main(flags)
    return base, output_dir, flags


def test_the_student_follows_the_teacher(run):
    base, output_dir, _ = run
    teacher, student = load_tower(str(base)), load_tower(str(output_dir))
    untrained = teacher.with_rotary_text(120, 5000.0)
    rng = np.random.default_rng(7)  # captions it has not seen
    token_BL = teacher.tokenizer([f"{sentence(rng, 5)}. {sentence(rng, 80)}." for _ in range(60)])
    with torch.no_grad():
        expected = teacher.encode_text(token_BL)
        before, after = (
            F.cosine_similarity(tower.encode_text(token_BL), expected).mean().item()
            for tower in (untrained, student)
        )
    assert 1 - after < 0.7 * (1 - before), (before, after)
    losses = json.loads((output_dir / "checkpoint-150" / "trainer_state.json").read_text())
    losses = [entry["loss"] for entry in losses["log_history"] if "loss" in entry]
    assert losses[-1] < 0.5 * losses[0]


def test_only_the_text_encoder_changed_and_not_its_words(run):
    base, output_dir, _ = run
    before, after = load_tower(str(base)).state_dict(), load_tower(str(output_dir)).state_dict()
    assert before.keys() - after.keys() == {"text.positional_embedding"}
    learned = {name for name in after if not torch.equal(before[name], after[name])}
    assert all(name.startswith("text.") for name in learned)
    assert "text.token_embedding.weight" not in learned
    assert {"text.text_projection", "text.ln_final.weight"} <= learned
    tower = load_tower(str(output_dir))
    assert (tower.context_length, tower.text.base) == (120, 5000.0)


def test_the_base_is_scaled_and_recorded_if_asked(run, tmp_path):
    more = ["--max_steps", "1", "--output_dir", str(tmp_path / "ntk"), "--ntk_factor", "8"]
    main([*run[2], *more])
    tower = load_tower(str(tmp_path / "ntk"))
    assert tower.text.base == pytest.approx(5000 * (8 * 120 / 77 - 7) ** (8 / 6))  # 8 a head


def test_again_it_has_nothing_to_do(run, caplog):
    weights = run[1] / "open_clip_model.safetensors"
    before = weights.stat().st_mtime_ns
    with caplog.at_level("INFO", logger="training"):
        main(run[2])
    assert "nothing to do" in caplog.text
    assert weights.stat().st_mtime_ns == before


def test_a_tower_that_cannot_be_adapted_is_refused_before_training(tmp_path):
    base = write_tower(tmp_path / "base", vision_cfg={"timm_model_name": "vit_tiny_patch16_224"})
    flags = ["--tower", str(base), "--captions", "none.json", "--output_dir", str(tmp_path / "o")]
    with pytest.raises(ValueError, match="does not pool by attention"):
        main([*flags, "--use_cpu"])


def test_the_defaults_are_the_published_recipe(tmp_path):
    args = AdaptTextEncoder(tower="a", captions=["b"], output_dir=str(tmp_path), use_cpu=True)
    told = (args.learning_rate, args.weight_decay, args.warmup_steps, args.lr_scheduler_type)
    assert told == (5e-4, 0.1, 1000, "cosine")
    assert (args.context_length, args.rotary_base, args.distillation) == (248, 10000.0, "cosine")
    assert args.ntk_factor == 0, "no scaling unless asked for"
