"""Judges: verdicts of files, prompts out of official scripts, and a tiny Llama that judges."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from eval import run
from eval.benchmark import JudgedBenchmark
from eval.judging import UNKNOWN, prompt_of_script, verdicts_of_file
from eval.registry import LANGUAGE
from eval.result import read_result
from mllm.assemble import assemble
from tests.eval.benchmarks.test_mmhal import ANSWERS, IDS, MMHAL, VERDICTS
from tests.eval.judged import write
from tests.tiny_llava import write_language_model, write_tower

TEMPLATE = "{% for turn in messages %}{{ turn['role'] }}: {{ turn['content'] }}\n{% endfor %}"


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama with a chat template: it says something, and always the same."""
    directory = write_language_model(tmp_path_factory.mktemp("judge"))
    (directory / "chat_template.jinja").write_text(TEMPLATE)
    return directory


@pytest.fixture
def call(mmhal_root: Path, tmp_path: Path) -> Callable[..., int]:
    """eval/run.py on answers to the small MMHal-Bench; further arguments as given."""
    answers = write(tmp_path / "answers.jsonl", ANSWERS)

    def run_it(*arguments: object) -> int:
        command = ["--answers", answers, "--benchmark", "mmhal", "--data-root", mmhal_root]
        return run.main([str(argument) for argument in (*command, *arguments)])

    return run_it


def test_the_judged_benchmarks_say_so() -> None:
    judged = {b.name for b in LANGUAGE if isinstance(b, JudgedBenchmark) and b.judge_required}
    assert judged >= {"mmhal", "objhal", "llava_bench"}
    assert not isinstance(next(b for b in LANGUAGE if b.name == "pope"), JudgedBenchmark)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (VERDICTS[2:], "verdicts.jsonl: 2 of 8 answers have no verdict: h0, h1; judge them too"),
        ((*VERDICTS, *VERDICTS[:2]), "judged more than once: h0, h1; keep one of each"),
        ((*VERDICTS, {"question_id": "x", "text": ""}), "1 verdicts on questions that mmhal does"),
    ],
)
def test_wrong_verdicts(
    mmhal_root: Path, tmp_path: Path, rows: tuple[dict, ...], message: str
) -> None:
    questions = MMHAL.load(mmhal_root)
    path = write(tmp_path / "verdicts.jsonl", rows)
    with pytest.raises(ValueError, match=message):
        verdicts_of_file(MMHAL, path, questions, lambda: questions, questions)


def test_verdicts_of_a_file(mmhal_root: Path, tmp_path: Path) -> None:
    questions = MMHAL.load(mmhal_root)
    path = write(tmp_path / "verdicts.jsonl", VERDICTS)
    verdicts = verdicts_of_file(MMHAL, path, questions, lambda: questions, questions)
    assert verdicts is not None
    assert verdicts.replies == dict.fromkeys(IDS, "Rating: 4")
    assert (verdicts.judge, verdicts.file) == ({"name": UNKNOWN}, path)
    # What needed no judge needs no verdict, and may have one.
    path = write(tmp_path / "verdicts.jsonl", VERDICTS[2:])
    assert (
        verdicts_of_file(MMHAL, path, questions[3:], lambda: questions[3:], questions) is not None
    )
    assert verdicts_of_file(MMHAL, write(path, []), questions, lambda: questions, questions) is None


def test_verdicts_on_other_answers_are_refused(mmhal_root: Path, tmp_path: Path) -> None:
    questions = MMHAL.load(mmhal_root)
    rows = [{**row, "prompt": q.prompt} for row, q in zip(VERDICTS, questions, strict=True)]
    path = write(tmp_path / "verdicts.jsonl", rows)
    assert verdicts_of_file(MMHAL, path, questions, lambda: questions, questions) is not None
    write(path, [*rows[:-1], {**rows[-1], "prompt": f"{questions[-1].prompt} Another answer."}])
    with pytest.raises(ValueError, match=f"judges another answer to {questions[-1].id} than the"):
        verdicts_of_file(MMHAL, path, questions, lambda: questions, questions)


def test_answers_alone_are_no_verdicts(
    call: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call() == 1
    assert "MMHal-Bench has no score without a judge: give its verdicts" in capsys.readouterr().err
    assert call("--verdicts", write(tmp_path / "v.jsonl", "")) == 1
    assert "v.jsonl: holds no verdicts on MMHal-Bench; check --verdicts" in " ".join(
        capsys.readouterr().err.split()
    )
    assert call("--verdicts", tmp_path / "none.jsonl") == 1
    assert "none.jsonl: no such file" in capsys.readouterr().err


def test_a_result_names_the_verdicts(call: Callable[..., int], tmp_path: Path) -> None:
    verdicts = write(tmp_path / "verdicts.jsonl", VERDICTS)
    assert call("--verdicts", verdicts, "--output", tmp_path / "out") == 0
    provenance = read_result(tmp_path / "out/mmhal.json").provenance
    assert provenance["judge"] == {"name": UNKNOWN}
    assert provenance["verdicts"]["file"] == "verdicts.jsonl"  # type: ignore[index]
    # Who judged before asked by a prompt that nobody knows; the script beside the data is not it.
    assert set(provenance["data"]) == {"response_template.json"}  # type: ignore[arg-type]
    assert "judge_prompts" not in provenance


def test_a_language_model_judges_and_goes_on(
    call: Callable[..., int], judge: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    assert call("--judge", judge, "--output", output) == 0
    path = output / "mmhal.verdicts.jsonl"
    written = path.read_text()
    rows = [json.loads(line) for line in written.splitlines()]
    assert sorted(row["question_id"] for row in rows) == IDS
    assert all("### LMM Response to Evaluate\nA cat." in row["prompt"] for row in rows)
    assert any(row["text"] for row in rows)
    result = read_result(output / "mmhal.json")
    assert result.provenance["judge"]["name"] == str(judge)  # type: ignore[index]
    assert len(result.provenance["judge"]["sha256"]) == 64  # type: ignore[index]
    assert len(result.provenance["judge_prompts"]) == 64  # type: ignore[arg-type]
    # Half a file goes on, and ends as the whole one did; the last line was cut by a kill.
    path.write_text(written[: written.index("\n", len(written) // 2) + 20])
    assert call("--judge", judge, "--output", output) == 0
    assert sorted(path.read_text().splitlines()) == sorted(written.splitlines())
    assert read_result(output / "mmhal.json").units == result.units
    # Its verdicts are a file like any other.
    shutil.copy(path, tmp_path / "kept.jsonl")
    assert call("--verdicts", tmp_path / "kept.jsonl", "--output", tmp_path / "again") == 0
    assert read_result(tmp_path / "again/mmhal.json").units == result.units
    # With what stands beside them, they say who judged.
    shutil.copy(path.with_suffix(".by.json"), tmp_path / "kept.by.json")
    assert call("--verdicts", tmp_path / "kept.jsonl", "--output", tmp_path / "again") == 0
    told = read_result(tmp_path / "again/mmhal.json").provenance["judge"]
    assert told["sha256"] == result.provenance["judge"]["sha256"]  # type: ignore[index]
    # The judge is what it is, not how it is called.
    moved = shutil.copytree(judge, tmp_path / "moved")
    assert call("--judge", moved, "--output", output) == 0


def test_verdicts_on_other_answers_or_of_another_judge_are_not_gone_on_with(
    call: Callable[..., int], judge: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert call("--judge", judge, "--output", output) == 0
    changed = ({"question_id": "h0", "text": "A dog."}, *ANSWERS[1:])
    write(tmp_path / "answers.jsonl", changed)
    assert call("--judge", judge, "--output", output) == 1
    assert "question h0 was asked in other words" in " ".join(capsys.readouterr().err.split())
    write(tmp_path / "answers.jsonl", ANSWERS)
    other = shutil.copytree(judge, tmp_path / "other")
    (other / "chat_template.jinja").write_text("Judge!" + TEMPLATE)
    assert call("--judge", other, "--output", output) == 1
    assert "made with another judge" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("option", "message"),
    [("--judge", "no such directory, and no hub id"), ("--verdicts", "no such file; check --verd")],
)
def test_a_judge_that_is_not_there_is_missed_before_anything_is_asked(
    mmhal_root: Path,
    tmp_path: Path,
    option: str,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["--model", "no/model", "--benchmark", "mmhal", "--data-root", mmhal_root, option,
               tmp_path / "none", "--output", tmp_path / "out"]  # fmt: skip
    assert run.main([str(argument) for argument in command]) == 1
    assert message in " ".join(capsys.readouterr().err.split())


def test_no_judge(
    call: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert call("--judge", tmp_path / "empty", "--output", tmp_path / "out") == 1
    message = " ".join(capsys.readouterr().err.split())
    assert "cannot be opened as a language model" in message
    assert "check --judge" in message
    silent = write_language_model(tmp_path / "silent")
    assert call("--judge", silent, "--output", tmp_path / "out") == 1
    assert "has no chat_template.jinja" in capsys.readouterr().err


def test_a_model_answers_and_a_judge_judges(
    objhal_root: Path, llava_bench_root: Path, judge: Path, tmp_path: Path
) -> None:
    tower, llm = write_tower(tmp_path / "tower"), write_language_model(tmp_path / "llm")
    assemble(str(tower), str(llm), tmp_path / "mllm", system="")
    output = tmp_path / "out"
    command = ["--model", tmp_path / "mllm", "--benchmark", "objhal", "llava_bench", "--data-root",
               objhal_root.parent, "--output", output, "--max-new-tokens", 2]  # fmt: skip
    assert run.main([str(argument) for argument in command]) == 1
    assert not output.exists()
    assert run.main([str(argument) for argument in [*command, "--judge", judge]]) == 0
    # Two tokens are no more than three words: nothing is left for Object HalBench's judge.
    assert (output / "objhal.verdicts.jsonl").read_text() == ""
    assert {unit.reading for unit in read_result(output / "objhal.json").units} == {
        "nothing invented"
    }
    bench = read_result(output / "llava_bench.json")
    assert bench.provenance["judge"] == read_result(output / "objhal.json").provenance["judge"]
    assert len((output / "llava_bench.verdicts.jsonl").read_text().splitlines()) == 4


SCRIPT = "import gone\nprompt = '''Say {}.\n'''\nraise SystemExit\n"


def test_a_prompt_is_read_and_its_script_not_run(tmp_path: Path) -> None:
    path = write(tmp_path / "s.py", SCRIPT)
    assert prompt_of_script(path, "prompt", ["{}"]) == "Say {}.\n"


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("prompt = 'Say {", "no Python script"),
        (b"\xff\xfe", "no Python script"),
        ("", "assigns no one string prompt with {} in it"),
        ("template = 'Say {}.'", "assigns no one string prompt"),
        ("prompt = 'Say.'", "assigns no one string prompt"),
        ("prompt = 'Say {} {}.'", "assigns no one string prompt"),
        ("prompt = 3", "assigns no one string prompt"),
        ("prompt = 'Say {}'.strip()", "assigns no one string prompt"),
        ("prompt = 'A {}'\nprompt = 'B {}'", "assigns no one string prompt"),
        ("def f():\n    prompt = 'Say {}.'", "assigns no one string prompt"),
    ],
)
def test_wrong_scripts(tmp_path: Path, script: str | bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prompt_of_script(write(tmp_path / "s.py", script), "prompt", ["{}"])
