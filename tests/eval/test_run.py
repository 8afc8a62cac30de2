"""The command line: answers, a tiny LLaVA, a tower; one message for whatever is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from eval import run
from eval.registry import BENCHMARKS, find_benchmark
from eval.result import read_result
from mllm.assemble import assemble
from tests.tiny_llava import write_language_model, write_tower

REPOSITORY = Path(__file__).resolve().parents[2]
WriteLines = Callable[[Path, Sequence[dict[str, object]]], None]
IDS = [10000001, 10000002, 20000001, 20000002, 1, 2]


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("model")
    directory = root / "mllm"
    tower, language_model = write_tower(root / "tower"), write_language_model(root / "llm")
    assemble(str(tower), str(language_model), directory, system="")
    return directory


@pytest.fixture
def answers(tmp_path: Path, write_lines: WriteLines) -> Path:
    path = tmp_path / "answers.jsonl"
    write_lines(path, [{"question_id": identity, "text": "Yes"} for identity in IDS])
    return path


def call(*arguments: object) -> int:
    return run.main([str(argument) for argument in arguments])


def test_answers_file_as_a_program(pope_root: Path, answers: Path, tmp_path: Path) -> None:
    command = [sys.executable, "eval/run.py", "--benchmark", "pope", "--data-root", pope_root]
    done = subprocess.run(
        [*command, "--answers", answers, "--output", tmp_path / "out"],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "66.67 %" in done.stdout  # F1 of always-yes on balanced labels
    result = json.loads((tmp_path / "out/pope.json").read_text())
    assert result["metrics"]["mean_f1"] == pytest.approx(2 / 3)
    assert set(result["provenance"]["data"]) == {
        f"coco_pope_{split}.json" for split in ("random", "popular", "adversarial")
    }
    assert result["provenance"]["versions"]["torch"] == torch.__version__
    assert result["provenance"]["parser"] == "pope-official-1"


def test_released_answers_from_the_command_line(
    shared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = shared / "pope/llava15_version"
    released = root / "answers_llava-v1.5-13b.jsonl"
    assert call("--benchmark", "pope", "--data-root", root, "--answers", released) == 0
    [told] = [line for line in capsys.readouterr().out.splitlines() if "mean F1" in line]
    _, _, value, interval, _ = (cell.strip() for cell in told.split("│"))
    assert value == "85.95 %"
    low, high = map(float, interval.split(" … "))
    assert low < 85.95 < high


def test_model_over_several_benchmarks_and_again(
    llava: Path, pope_root: Path, mmvp_root: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    arguments = ["--model", llava, "--benchmark", "pope", "mmvp", "--data-root", pope_root.parent,
                 "--output", output, "--max-new-tokens", 3]  # fmt: skip
    assert call(*arguments) == 0
    pope, mmvp = read_result(output / "pope.json"), read_result(output / "mmvp.json")
    assert (len(pope.units), len(mmvp.units)) == (6, 2)
    assert pope.provenance["decoding"] == {"strategy": "greedy", "max_new_tokens": 3}
    assert pope.provenance["model"]["dtype"] == "float32"
    rows = [json.loads(line) for line in (output / "pope.answers.jsonl").read_text().splitlines()]
    assert sorted(row["question_id"] for row in rows) == sorted(map(str, IDS))
    # Asked again, nothing changes; half of the answers taken away, the same ones come back.
    written = (output / "pope.answers.jsonl").read_text()
    (output / "pope.answers.jsonl").write_text("".join(written.splitlines(keepends=True)[:3]))
    assert call(*arguments) == 0
    assert sorted((output / "pope.answers.jsonl").read_text()) == sorted(written)
    assert read_result(output / "pope.json") == pope


def test_answers_do_not_depend_on_the_batch(llava: Path, pope_root: Path, tmp_path: Path) -> None:
    for size in (1, 6):
        arguments = ["--model", llava, "--benchmark", "pope", "--data-root", pope_root]
        arguments += ["--output", tmp_path / str(size), "--max-new-tokens", 4]
        assert call(*arguments, "--batch-size", size) == 0
    one, six = (read_result(tmp_path / size / "pope.json").units for size in ("1", "6"))
    assert one == six


class FlatTower(nn.Module):
    """Everything looks the same to it."""

    def __init__(self) -> None:
        super().__init__()
        self.logit_scale = nn.Parameter(torch.tensor(1.0))

    def preprocess(self, image: Image.Image) -> Tensor:
        return torch.ones(2)

    def tokenizer(self, texts: list[str]) -> Tensor:
        return torch.ones(len(texts), 2)

    def encode_image(self, pixel_values: Tensor, normalize: bool = False) -> Tensor:
        return pixel_values

    def encode_text(self, token: Tensor, normalize: bool = False) -> Tensor:
        return token


def test_tower(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    write_picture: Callable[[Path], None],
    write_csv: Callable[[Path, Sequence[Sequence[str]]], None],
) -> None:
    monkeypatch.setattr("vision_tower.towers.load_tower", lambda name: FlatTower())
    root = tmp_path / "data/mmvp_vlm"
    write_csv(root / "Questions.csv", [["Question ID", "Type", "Statement"],
                                       ["1", "t", "one"], ["2", "t", "two"]])  # fmt: skip
    for number in (1, 2):
        write_picture(root / "MLLM_VLM Images/t" / f"{number}.jpg")
    output = tmp_path / "out"
    arguments = ["--tower", "flat", "--benchmark", "mmvp_vlm", "--data-root", root.parent]
    assert call(*arguments, "--output", output) == 0
    result = read_result(output / "mmvp_vlm.json")
    assert result.units[0].answer == "second picture | second picture"
    assert result.provenance["tower"] == {"name": "flat", "sha256": None}


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert call(*arguments) == 1
    return " ".join(capsys.readouterr().err.split())


def test_unknown_benchmark(
    capsys: pytest.CaptureFixture[str], answers: Path, pope_root: Path
) -> None:
    message = refused(capsys, "--answers", answers, "--benchmark", "pop", "--data-root", pope_root)
    assert "unknown benchmark 'pop': did you mean 'pope'?" in message
    with pytest.raises(ValueError, match=r"There are pope, .*chair"):
        find_benchmark("zzz")
    assert [benchmark.name for benchmark in BENCHMARKS.values()] == list(BENCHMARKS)


@pytest.mark.parametrize("option", ["--judge", "--verdicts"])
def test_no_judge_where_a_rule_scores(
    capsys: pytest.CaptureFixture[str], answers: Path, pope_root: Path, option: str, tmp_path: Path
) -> None:
    arguments = ["--answers", answers, "--benchmark", "pope", "--data-root", pope_root]
    message = refused(capsys, *arguments, option, "any", "--output", tmp_path)
    assert "pope: scored by a rule; leave --judge and --verdicts out" in message


def test_a_model_is_what_it_is_not_how_it_is_called(
    llava: Path, pope_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["--benchmark", "pope", "--data-root", pope_root, "--output", tmp_path / "out"]
    assert call("--model", llava, *arguments, "--max-new-tokens", 2) == 0
    written = (tmp_path / "out/pope.answers.jsonl").read_text()
    monkeypatch.chdir(llava.parent)
    assert call("--model", llava.name, *arguments, "--max-new-tokens", 2) == 0
    assert (tmp_path / "out/pope.answers.jsonl").read_text() == written


def test_wrong_kind_of_subject(
    capsys: pytest.CaptureFixture[str], answers: Path, pope_root: Path
) -> None:
    arguments = ["--benchmark", "mmvp_vlm", "--data-root", pope_root]
    assert "is run with --tower" in refused(capsys, "--answers", answers, *arguments)
    arguments = ["--benchmark", "pope", "--data-root", pope_root, "--output", "x"]
    assert "is run with --model or --answers" in refused(capsys, "--tower", "t", *arguments)


def test_missing_data(capsys: pytest.CaptureFixture[str], answers: Path, tmp_path: Path) -> None:
    arguments = ["--answers", answers, "--benchmark", "pope", "--data-root"]
    assert "check --data-root" in refused(capsys, *arguments, tmp_path / "none")
    (tmp_path / "empty").mkdir()
    assert "no such POPE file" in refused(capsys, *arguments, tmp_path / "empty")


def test_several_benchmarks_need_a_folder_each(
    capsys: pytest.CaptureFixture[str], llava: Path, pope_root: Path, tmp_path: Path
) -> None:
    arguments = ["--model", llava, "--benchmark", "pope", "chair", "--data-root", pope_root.parent]
    message = refused(capsys, *arguments, "--output", tmp_path / "out")
    assert "chair: no such folder" in message


def test_missing_answers_name_the_ids(
    capsys: pytest.CaptureFixture[str], answers: Path, pope_root: Path
) -> None:
    answers.write_text("".join(answers.read_text().splitlines(keepends=True)[:-1]))
    message = refused(capsys, "--answers", answers, "--benchmark", "pope", "--data-root", pope_root)
    assert "1 of 6 questions of pope have no answer: 2;" in message


def test_no_answers_file(capsys: pytest.CaptureFixture[str], pope_root: Path) -> None:
    arguments = ["--answers", "none.jsonl", "--benchmark", "pope", "--data-root", pope_root]
    assert "none.jsonl: no such file" in refused(capsys, *arguments)


def test_not_a_llava(capsys: pytest.CaptureFixture[str], pope_root: Path, tmp_path: Path) -> None:
    write_language_model(tmp_path / "llm")
    arguments = ["--benchmark", "pope", "--data-root", pope_root, "--output", tmp_path / "out"]
    message = refused(capsys, "--model", tmp_path / "llm", *arguments)
    assert "'llama' model, which transformers does not know as a vision-language" in message
    message = refused(capsys, "--model", tmp_path / "nowhere", *arguments)
    assert "nowhere: no such directory" in message


def test_missing_picture_is_found_before_the_model_is_loaded(
    capsys: pytest.CaptureFixture[str], pope_root: Path, tmp_path: Path
) -> None:
    (pope_root / "images/a.jpg").unlink()
    arguments = ["--benchmark", "pope", "--data-root", pope_root, "--output", tmp_path / "out"]
    message = refused(capsys, "--model", "no_model_at_all", *arguments)
    assert "images/a.jpg: no such picture (1 of" in message


@pytest.mark.parametrize(
    "arguments",
    [
        ["--model", "m", "--answers", "a", "--benchmark", "pope", "--data-root", "d"],
        ["--benchmark", "pope", "--data-root", "d"],
        ["--model", "m", "--benchmark", "pope", "--data-root", "d"],
        ["--answers", "a", "--benchmark", "pope", "mmvp", "--data-root", "d"],
        ["--answers", "a", "--benchmark", "pope", "--data-root", "d", "--batch-size", "0"],
        ["--answers", "a", "--benchmark", "pope", "--data-root", "d", "--max-new-tokens", "-1"],
        ["--answers", "a", "--benchmark", "pope", "--data-root", "d", "--max-new-tokens", "0"],
        ["--answers", "a", "--benchmark", "pope", "--data-root", "d", "--endpoint", "http://h"],
        ["--answers", "a", "--benchmark", "mmvp", "--data-root", "d", "--judge", "j"],
        ["--tower", "t", "--benchmark", "edits", "--data-root", "d", "--verdicts", "v"],
        ["--answers", "a", "--benchmark", "mmvp", "--data-root", "d", "--unknown"],
    ],
)
def test_contradictory_command_lines(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        run.main(arguments)
    assert stopped.value.code == 2


def test_answers_that_say_nothing_are_told(
    pope_root: Path, tmp_path: Path, write_lines: WriteLines, caplog: pytest.LogCaptureFixture
) -> None:
    """By POPE's rule they are all a yes."""
    write_lines(tmp_path / "a.jsonl", [{"question_id": i, "text": "ba ba"} for i in IDS])
    assert (
        call("--answers", tmp_path / "a.jsonl", "--benchmark", "pope", "--data-root", pope_root)
        == 0
    )
    assert "POPE: 100 % of the answers say nothing that can be read (random/unread" in caplog.text
