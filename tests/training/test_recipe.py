from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

import pytest
import yaml

from training.adapt_text_encoder import AdaptTextEncoder
from training.arguments import StageArguments
from training.recipe import read_recipe
from training.train_vision_tower import TrainVisionTower

RECIPES = Path(__file__).parents[2] / "training" / "recipes"


@dataclass
class Example(StageArguments):
    tower: str = field(default="", metadata={"help": "A tower."})
    captions: list[str] = field(default_factory=list, metadata={"help": "Files."})
    kind: Literal["cosine", "mse"] = field(default="cosine", metadata={"help": "A kind."})
    learning_rate: float = field(default=0.5, metadata={"help": "A rate."})

    def __post_init__(self) -> None:
        self.require("tower")
        super().__post_init__()


@pytest.fixture
def read(tmp_path):
    def call(recipe, *flags):
        (tmp_path / "r.yaml").write_text(recipe)
        needed = ["--output_dir", str(tmp_path), "--use_cpu"]
        return read_recipe(Example, [str(tmp_path / "r.yaml"), *needed, *flags])

    return call


def test_flag_beats_recipe_beats_default(read):
    args = read("tower: a\nmax_steps: 5\n", "--max_steps", "7")
    assert (args.tower, args.max_steps, args.learning_rate) == ("a", 7, 0.5)
    assert read("tower: a\nmax_steps: 5\n").max_steps == 5
    assert read("tower: a\ncaptions: [x, y]\n", "--captions", "z").captions == ["z"]


def test_values_arrive_typed(read):
    # YAML 1.1 reads 1e-3 as a string, and yes as a boolean.
    args = read("tower: a\nlearning_rate: 1e-3\nbf16: yes\ncaptions: [x, 'y z']\nmax_steps: -1\n")
    assert args.learning_rate == 1e-3
    assert args.bf16 is True
    assert args.captions == ["x", "y z"]
    assert args.max_steps == -1
    assert read("tower: a\nbf16: false\ndeepspeed: null\n").deepspeed is None
    assert read("tower: a\nlr_scheduler_kwargs: {num_cycles: 2}\n").lr_scheduler_kwargs == {
        "num_cycles": 2
    }


def test_without_a_recipe(tmp_path):
    args = read_recipe(Example, ["--tower", "a", "--output_dir", str(tmp_path), "--use_cpu"])
    assert args.tower == "a"


def test_a_recipe_that_ends_in_a_list_does_not_take_its_own_path_into_it(tmp_path):
    (tmp_path / "r.yaml").write_text("tower: a\ncaptions: [b, c]\n")
    args = read_recipe(Example, [str(tmp_path / "r.yaml"), "--output_dir", str(tmp_path)])
    assert args.captions == ["b", "c"]


@pytest.mark.parametrize("rank", [["--local_rank=0"], ["--local_rank", "0"]])
def test_the_deepspeed_launcher_puts_the_rank_first(tmp_path, rank):
    (tmp_path / "r.yaml").write_text("tower: a\n")
    flags = [str(tmp_path / "r.yaml"), "--output_dir", str(tmp_path), "--use_cpu"]
    assert read_recipe(Example, [*rank, *flags]).tower == "a"


@pytest.mark.parametrize(
    ("recipe", "flags", "told"),
    [
        (
            "tower: a\nlearnin_rate: 1\n",
            [],
            r"r\.yaml: 'learnin_rate' is no setting.*'learning_rate'",
        ),
        ("tower: a\n", ["--learnin_rate", "1"], "'--learnin_rate' is not.*mean 'learning_rate'"),
        ("tower: a\n", ["--learning", "1"], "'--learning' is not understood"),
        ("tower: a\nmax_steps: many\n", [], "max_steps.*'many'"),
        ("tower: a\nkind: cosin\n", [], "kind.*cosin"),
        ("tower: a\neval_strategy: no\n", [], "eval_strategy|IntervalStrategy"),
        ("tower: [a\n", [], r"r\.yaml is not valid YAML"),
        ("- tower\n", [], r"r\.yaml must be a mapping"),
        ("max_steps: 3\n", [], "nothing is given for tower.*--tower"),
        ("tower: a\n", ["--tower", "b", "stray"], "'stray' is not understood"),
    ],
)
def test_mistakes_stop_with_one_line(read, recipe, flags, told):
    with pytest.raises(SystemExit, match=told) as caught:
        read(recipe, *flags)
    assert "\n" not in str(caught.value).strip() or "YAML" in str(caught.value)


@pytest.mark.parametrize(("name", "told"), [("x.json", "no .yaml"), ("none.yaml", "there is no")])
def test_a_recipe_that_is_none(name, told):
    with pytest.raises(SystemExit, match=told):
        read_recipe(Example, [name])


@pytest.mark.parametrize("folder", [".", "miniature"])
@pytest.mark.parametrize("stage", [AdaptTextEncoder, TrainVisionTower])
def test_the_recipes_kept_here_are_read(folder, stage):
    script = {AdaptTextEncoder: "adapt_text_encoder", TrainVisionTower: "train_vision_tower"}[stage]
    path = RECIPES / folder / f"{script}.yaml"
    wanted = yaml.safe_load(path.read_text())
    here = ["--use_cpu", "True", "--deepspeed", "", "--bf16", "False"]  # on any machine
    args = read_recipe(stage, [str(path), *here])
    assert wanted["output_dir"] == args.output_dir
    assert float(wanted["learning_rate"]) == args.learning_rate


@pytest.mark.parametrize("stage", [AdaptTextEncoder, TrainVisionTower])
def test_a_stage_has_at_most_12_settings_of_its_own(stage):
    shared = {setting.name for setting in fields(StageArguments)}
    own = [setting for setting in fields(stage) if setting.name not in shared]
    assert len(own) <= 12
    assert all(setting.metadata["help"] for setting in own)
