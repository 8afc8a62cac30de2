"""Every recipe in the repository is read by its stage, and says what it should."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from mllm.adapters import Lora
from training.adapt_text_encoder import AdaptTextEncoder
from training.arguments import StageArguments
from training.finetune import Finetune
from training.pretrain_projector import PretrainProjector
from training.recipe import from_mapping, read_recipe
from training.train_vision_tower import TrainVisionTower

ROOT = Path(__file__).parents[2]
STAGES: dict[str, type[StageArguments]] = {
    "adapt_text_encoder": AdaptTextEncoder,
    "train_vision_tower": TrainVisionTower,
    "pretrain_projector": PretrainProjector,
    "finetune": Finetune,
}
RECIPES = sorted((ROOT / "training" / "recipes").rglob("*.y*ml"))
REAL = [path for path in RECIPES if path.parent.name == "recipes"]
MINIATURE = [path for path in RECIPES if path.parent.name == "miniature"]
TOWERS = {
    folder: [path for path in RECIPES if path.parent.name == folder]
    for folder in ("dfn-h-14-378", "siglip2-so400m-16-384")
}
ADAPTERS = [path for path in RECIPES if path.parent.name in ("lora", "qlora")]
SIZES = ("per_device_train_batch_size", "edit_batch_size")
# On a machine without a GPU, bf16 and DeepSpeed are refused by Trainer's arguments, not by ours.
ON_CPU = ["--bf16", "False", "--tf32", "False", "--deepspeed", "", "--use_cpu", "True"]


def name(path: Path) -> str:
    return path.relative_to(ROOT / "training").as_posix()


def read(path: Path, *flags: str) -> StageArguments:
    return read_recipe(STAGES[path.stem], [str(path), *ON_CPU, *flags])


def test_every_stage_has_a_recipe_of_both_sizes() -> None:
    assert {path.stem for path in REAL} == {path.stem for path in MINIATURE} == set(STAGES)
    assert len(RECIPES) == 2 * len(STAGES) + 2 * len(TOWERS) + len(ADAPTERS)


def test_adapters_are_in_4_bits_where_the_recipe_says_so() -> None:
    told = {path.parent.name: from_mapping(Lora, read(path).lora) for path in ADAPTERS}
    assert {name: lora.quantized for name, lora in told.items()} == {"lora": False, "qlora": True}


@pytest.mark.parametrize("path", RECIPES, ids=name)
def test_a_recipe_is_read_as_it_stands(path: Path) -> None:
    args = read(path)
    recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    for key, value in recipe.items():
        if f"--{key}" in ON_CPU:
            continue
        told = getattr(args, key)
        if isinstance(told, float):
            assert told == float(value), key
        elif isinstance(value, list):  # an entry may be a mapping, which is handed on as text
            assert [yaml.safe_load(entry) for entry in told] == value, key
        elif isinstance(value, dict):
            assert yaml.safe_load(told).items() >= value.items(), key
        else:
            assert told == value, key


@pytest.mark.parametrize("path", RECIPES, ids=name)
def test_an_unknown_key_stops_with_a_suggestion(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / path.name
    copy.write_text(path.read_text(encoding="utf-8") + "\nlearning_rat: 1\n", encoding="utf-8")
    with pytest.raises(SystemExit, match=r"'learning_rat'.*Did you mean 'learning_rate'"):
        read(copy)


@pytest.mark.parametrize("path", RECIPES, ids=name)
def test_a_flag_wins_over_the_recipe(path: Path) -> None:
    assert read(path, "--learning_rate", "0.125").learning_rate == 0.125


@pytest.mark.parametrize("path", RECIPES, ids=name)
def test_files_of_the_repository_that_a_recipe_names_exist(path: Path) -> None:
    recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    values = [
        v for value in recipe.values() for v in (value if isinstance(value, list) else [value])
    ]
    for value in values:
        if str(value).startswith("training/"):
            assert (ROOT / value).is_file(), value


def outputs(folder: list[Path]) -> dict[str, str]:
    return {
        path.stem: yaml.safe_load(path.read_text(encoding="utf-8"))["output_dir"] for path in folder
    }


@pytest.mark.parametrize("folder", [REAL, MINIATURE], ids=["real", "miniature"])
def test_each_stage_starts_where_the_one_before_ended(folder: list[Path]) -> None:
    recipes = {p.stem: yaml.safe_load(p.read_text(encoding="utf-8")) for p in folder}
    made = outputs(folder)
    assert recipes["train_vision_tower"]["tower"] == made["adapt_text_encoder"]
    assert recipes["pretrain_projector"]["vision_tower"] == made["train_vision_tower"]
    assert recipes["finetune"]["model"] == made["pretrain_projector"]


@pytest.mark.parametrize("folder", TOWERS)
def test_other_towers_differ_in_the_tower_and_the_micro_batches_alone(folder: str) -> None:
    recipes = {p.stem: yaml.safe_load(p.read_text(encoding="utf-8")) for p in TOWERS[folder]}
    published = {p.stem: yaml.safe_load(p.read_text(encoding="utf-8")) for p in REAL}
    assert recipes["train_vision_tower"]["tower"] == recipes["adapt_text_encoder"]["output_dir"]
    own = {"tower", "output_dir", *SIZES, "gradient_accumulation_steps"}
    for stage, recipe in recipes.items():
        for key in recipe.keys() - own:
            assert recipe[key] == published[stage][key], key
    recipe = recipes["train_vision_tower"]
    for size in SIZES:
        assert recipe[size] * recipe["gradient_accumulation_steps"] * 8 == 2048


def test_real_recipes_are_the_published_ones() -> None:
    """LLaVA-1.5's batch of 256 and 128 conversations on 8 devices, its rates and warm-up."""
    recipes = {p.stem: yaml.safe_load(p.read_text(encoding="utf-8")) for p in REAL}
    for stage, batch, rate in (("pretrain_projector", 256, 1e-3), ("finetune", 128, 2e-5)):
        recipe = recipes[stage]
        rows = recipe["per_device_train_batch_size"] * recipe["gradient_accumulation_steps"] * 8
        assert rows == batch
        assert float(recipe["learning_rate"]) == rate
        assert recipe["warmup_steps"] == 0.03
    assert recipes["adapt_text_encoder"]["tower"] == "ViT-L-14-336-quickgelu:openai"
    assert recipes["adapt_text_encoder"]["context_length"] == 248
    assert recipes["pretrain_projector"]["language_model"] == "lmsys/vicuna-7b-v1.5"
