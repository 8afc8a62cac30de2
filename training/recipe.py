"""Read a stage's recipe: a YAML file of defaults, then flags, into one typed dataclass.

    python training/train_vision_tower.py training/recipes/train_vision_tower.yaml --max_steps 10

Precedence: dataclass default < recipe < flag. Every recipe entry is handed to the same parser as a
flag, so both are checked alike: an unknown name stops the run with a suggestion, and so does a
value of the wrong type.
"""

from __future__ import annotations

import difflib
import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast

import yaml
from pydantic import ValidationError
from transformers import HfArgumentParser

Stage = TypeVar("Stage")
Setting = TypeVar("Setting")


class RecipeParser(HfArgumentParser):
    """HfArgumentParser whose errors are one line: TrainingArguments' usage text is 200 lines."""

    def error(self, message: str) -> NoReturn:
        raise SystemExit(f"{self.prog}: {message}")


def read_recipe(stage: type[Stage], argv: Sequence[str] | None = None) -> Stage:
    """Parse `[recipe.yaml] [--flag value ...]` into `stage`, a dataclass.

    The recipe comes before flags that take lists. Errors leave by SystemExit with one line.
    """
    parser, words = _words(stage, argv)
    try:
        return parser.parse_args_into_dataclasses(words, look_for_args_file=False)[0]
    except ValueError as error:
        parser.error(str(error))


def as_written(stage: type, argv: Sequence[str]) -> Namespace:
    """The settings that `read_recipe` would read, before `stage` itself has looked at them: those
    of another machine too."""
    parser, words = _words(stage, argv)
    return parser.parse_args(words)


def _words(stage: type, argv: Sequence[str] | None) -> tuple[RecipeParser, list[str]]:
    """A stage's parser, and the words of recipe and flags for it."""
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = RecipeParser(cast("Any", stage), allow_abbrev=False)
    # The launcher of DeepSpeed calls scripts with --local_rank=N before everything else.
    parser.add_argument("recipe", nargs="?", default=None, help="YAML file of defaults")
    namespace, _ = parser.parse_known_args(argv)
    flags = [] if namespace.recipe is None else _recipe_flags(parser, Path(namespace.recipe))
    if namespace.recipe is not None:  # first of all: after a list it would be taken into the list
        argv.remove(namespace.recipe)
        flags = [namespace.recipe, *flags]
    _, unknown = parser.parse_known_args([*flags, *argv])
    if unknown:
        where = "it stands after a value list" if not unknown[0].startswith("-") else "no such flag"
        parser.error(
            f"{unknown[0]!r} is not understood ({where}).{_suggestion(parser, unknown[0])}"
        )
    return parser, [*flags, *argv]


def from_mapping(kind: type[Setting], text: str) -> Setting:
    """A setting that is a mapping, of its text: `kind` is a dataclass of pydantic.

    Raises ValueError that names the setting and what it may hold.
    """
    try:
        told = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"the setting {text} is not valid YAML: {error}") from error
    if not isinstance(told, dict) or not all(isinstance(name, str) for name in told):
        raise ValueError(f"the setting {text!r} is no mapping of settings, {{name: value, ...}}.")
    try:
        return kind(**told)
    except ValidationError as error:
        wrong = error.errors()[0]
        known = ", ".join(setting.name for setting in fields(cast("Any", kind)))
        raise ValueError(
            f"the setting {text}: {wrong['loc'][0]}: {wrong['msg']}. There are {known}."
        ) from error


def _recipe_flags(parser: RecipeParser, path: Path) -> list[str]:
    if path.suffix not in {".yaml", ".yml"}:
        parser.error(f"the recipe {str(path)!r} is no .yaml file. Recipes: training/recipes/")
    if not path.is_file():
        parser.error(f"there is no recipe {path}. Recipes: training/recipes/")
    try:
        recipe = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        parser.error(f"{path} is not valid YAML: {error}")
    if not isinstance(recipe, dict):
        parser.error(f"{path} must be a mapping of names to values, not {type(recipe).__name__}")
    flags: list[str] = []
    for name, value in recipe.items():
        if f"--{name}" not in parser._option_string_actions:
            parser.error(
                f"{path}: {name!r} is no setting of this stage.{_suggestion(parser, name)}"
            )
        flags += _as_flags(str(name), value)
    return flags


def _as_flags(name: str, value: object) -> list[str]:
    if value is None:
        return []
    if isinstance(value, list):
        return [f"--{name}", *(_as_text(entry) for entry in value)]
    return [f"--{name}={_as_text(value)}"]


def _as_text(value: object) -> str:
    return json.dumps(value) if isinstance(value, dict) else str(value)


def _suggestion(parser: RecipeParser, name: object) -> str:
    wanted = str(name).split("=")[0].lstrip("-")
    known = [option.lstrip("-") for option in parser._option_string_actions]
    close = difflib.get_close_matches(wanted, known, n=1)
    return f" Did you mean {close[0]!r}?" if close else " All settings: --help"
