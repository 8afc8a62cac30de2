"""README's commands are understood by what they start, its paths exist, its file tree is true."""

from __future__ import annotations

import argparse
import ast
import importlib
import json
import re
import shlex
from pathlib import Path, PurePath
from typing import NoReturn

import pytest

from mllm.assemble import assemble
from mllm.chat import Chat
from mllm.conversations import read_conversation
from tests.tiny_llava import picture, write_language_model, write_tower
from tests.training.test_recipes import ON_CPU, STAGES
from training.recipe import read_recipe

ROOT = Path(__file__).parents[1]
PAGES = {
    name: (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "CONTRIBUTING.md")
}
PACKAGES = ("benchmarks", "eval", "mllm", "scripts", "training", "vision_tower")
# What a run writes, and what its user brings.
NOT_OURS = ("out/", "data/", ".venv/", "~")
LAUNCHERS = ("python", "deepspeed", "torchrun")


def blocks(language: str, *pages: str) -> list[str]:
    text = "\n".join(PAGES[page] for page in pages or PAGES)
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def commands() -> list[str]:
    """Lines of the bash blocks, continued lines put together."""
    lines = "".join(blocks("bash")).replace("\\\n", " ").splitlines()
    return [
        " ".join(shlex.join(shlex.split(line, comments=True)).split()) for line in lines if line
    ]


def script_and_arguments(command: str) -> tuple[str, list[str]]:
    words = [w for w in shlex.split(command)]
    position = next(i for i, word in enumerate(words) if word.endswith((".py", ".sh")))
    return words[position], words[position + 1 :]


PYTHON = [command for command in commands() if command.split()[0] in LAUNCHERS]
SLURM = [command for command in commands() if command.startswith("sbatch ")]
SHELL = [command for command in commands() if "bash scripts/" in command]


def test_every_command_is_of_a_kind_that_is_checked() -> None:
    others = [c for c in commands() if c not in PYTHON + SHELL + SLURM]
    assert len(PYTHON) > 15
    assert len(SHELL) >= 5
    assert all(c.startswith(("make ", "source .venv/bin/activate")) for c in others), others


class Understood(BaseException):
    """Raised once a command line was parsed, before anything is done with it."""


def parse_only(script: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the script's own main up to its parser; SystemExit where it refuses the arguments."""
    original = argparse.ArgumentParser.parse_known_args

    def parse(self: argparse.ArgumentParser, *given: object) -> NoReturn:
        _, unknown = original(self, *given)  # type: ignore[arg-type]
        if unknown:  # README's commands have no flags that are for another parser
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        raise Understood

    monkeypatch.setattr(argparse.ArgumentParser, "parse_known_args", parse)
    monkeypatch.setattr("sys.argv", [script, *arguments])
    with pytest.raises(Understood):
        importlib.import_module(script.removesuffix(".py").replace("/", ".")).main()


@pytest.mark.parametrize("command", dict.fromkeys(PYTHON))
def test_python_commands_are_understood(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    script, arguments = script_and_arguments(command)
    assert Path(script).is_file()
    stage = STAGES.get(Path(script).stem)
    if stage is None:
        parse_only(script, arguments, monkeypatch)
    else:
        read_recipe(stage, [*arguments, *ON_CPU])


def test_a_flag_that_is_not_there_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit):
        parse_only("eval/run.py", ["--no-such-flag"], monkeypatch)


@pytest.mark.parametrize("command", dict.fromkeys(SLURM))
def test_commands_for_slurm_are_understood(command: str) -> None:
    options, _, rest = command.partition(" scripts/slurm.sbatch ")
    script, *arguments = shlex.split(rest)
    assert options.split()[1::2] == ["--nodes", "--gpus-per-node", "--ntasks-per-node", "--time"]
    read_recipe(STAGES[Path(script).stem], [*arguments, *ON_CPU])


@pytest.mark.parametrize("command", dict.fromkeys(SHELL))
def test_shell_commands_are_understood(command: str) -> None:
    script, arguments = script_and_arguments(command)
    text = (ROOT / script).read_text(encoding="utf-8")
    for setting in re.findall(r"([A-Z_]+)=", command.split("bash")[0]):
        assert f"${{{setting}:-" in text, setting
    if Path(script).name == "finetune.sh":
        recipe = [word for word in arguments if word.endswith(".yaml")]
        flags = arguments[len(recipe) :]
        default = ["training/recipes/finetune.yaml"]
        read_recipe(STAGES["finetune"], [*(recipe or default), *flags, *ON_CPU])
    elif Path(script).name != "test.sh":
        assert all(word in text for word in arguments if word.startswith("--"))


@pytest.mark.parametrize("flag", re.findall(r"`(--[a-z_-]+)", "\n".join(PAGES.values())))
def test_flags_in_the_text_exist(flag: str) -> None:
    """Each is read by some script: as a field of a stage or an argument of a parser."""
    fields = {f"--{name}" for stage in STAGES.values() for name in stage.__dataclass_fields__}
    sources = [p for name in ("eval", "benchmarks") for p in (ROOT / name).glob("*.py")]
    sources += (ROOT / "scripts").rglob("*.*[yh]")
    told = {word for p in sources for word in re.findall(r"--[a-z_-]+", p.read_text("utf-8"))}
    assert flag in fields | told


@pytest.mark.parametrize("page", PAGES)
def test_paths_in_the_text_exist(page: str) -> None:
    text = re.sub(r"^```.*?^```", "", PAGES[page], flags=re.DOTALL | re.MULTILINE)
    spans = re.findall(r"`([^`\s]+)`", text) + re.findall(r"\]\(([^)\s#:]+)\)", text)
    ours = [s for s in spans if s.split("/")[0] in (*PACKAGES, "tests", "docs") and "/" in s]
    assert ours
    missing = [s for s in ours if "<" not in s and not (ROOT / s).exists()]
    assert not missing


def test_recipes_name_the_models_that_readme_names() -> None:
    recipes = "".join(p.read_text("utf-8") for p in (ROOT / "training" / "recipes").glob("*.yaml"))
    for name in ("ViT-L-14-336-quickgelu:openai", "lmsys/vicuna-7b-v1.5"):
        assert name in PAGES["README.md"]
        assert name in recipes


def tree() -> dict[str, str]:
    """Path -> comment, from the block under "Where things are"; folders end with a slash."""
    block = PAGES["README.md"].split("## Where things are")[1].split("```")[1]
    found: dict[str, str] = {}
    parents: list[str] = []
    for line in filter(str.strip, block.splitlines()):
        depth = (len(line) - len(line.lstrip())) // 4
        name, *comment = re.split(r"\s{2,}", line.strip(), maxsplit=1)
        path = "".join(parents[:depth]) + name
        found[path] = comment[0] if comment else ""
        if name.endswith("/"):
            parents[depth:] = [name]
    return found


def test_everything_in_the_tree_exists() -> None:
    assert len(tree()) > 60
    assert not [path for path in tree() if not (ROOT / path).exists()]


def test_the_tree_lists_every_file() -> None:
    """Every module and script, and all that lies at the top but what git leaves out."""
    ours = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for pattern in ("*.py", "*.sh")
        for path in (ROOT / package).rglob(pattern)
        if path.name != "__init__.py"
    }
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    for path in ROOT.iterdir():
        name = path.name + "/" * path.is_dir()
        empty = path.is_dir() and not any(p.is_file() for p in path.rglob("*"))
        if not (empty or name.startswith(".") or any(map(PurePath(name).match, ignored))):
            ours.add(name)
    assert not sorted(ours - set(tree()))


@pytest.mark.parametrize("block", blocks("python"))
def test_python_in_the_text_is_python_and_needs_nothing_of_ours(block: str) -> None:
    nodes = [n for n in ast.walk(ast.parse(block)) if isinstance(n, ast.Import | ast.ImportFrom)]
    modules = {
        name.split(".")[0]
        for n in nodes
        for name in (
            [n.module or ""] if isinstance(n, ast.ImportFrom) else [a.name for a in n.names]
        )
    }
    assert not modules & set(PACKAGES)


def test_the_example_answers_as_the_chat_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """README's own lines, on a tiny LLaVA instead of the miniature's."""
    tower, llm = write_tower(tmp_path / "tower"), write_language_model(tmp_path / "llm")
    assemble(str(tower), str(llm), tmp_path / "mllm")
    picture(0).save(tmp_path / "picture.png")
    [block] = blocks("python", "README.md")
    block = block.replace("out/miniature/mllm", str(tmp_path / "mllm"))
    block, replaced = re.subn(r"out/miniature/data/\S+\.png", str(tmp_path / "picture.png"), block)
    assert replaced == 1
    capsys.readouterr()
    exec(compile(block, "README.md", "exec"), {})
    told = capsys.readouterr().out
    answer = Chat(tmp_path / "mllm").answer(picture(0), "What is in the photo?", max_new_tokens=100)
    assert told.strip() == answer.strip() != ""


def test_the_example_rows_can_be_trained_on() -> None:
    [rows] = [json.loads(block) for block in blocks("json", "README.md")]
    assert [len(read_conversation(row, "README", ROOT).pictures) for row in rows] == [1, 2]


def test_results_stand_between_their_marks() -> None:
    page = PAGES["README.md"]
    assert page.count("<!-- results -->") == page.count("<!-- /results -->") == 1
    assert page.index("<!-- results -->") < page.index("<!-- /results -->")
