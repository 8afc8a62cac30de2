"""MME's files: the questions in their two official forms, and the eval tool's answers.

The benchmark ships a folder per task, with pictures; the eval tool ships the same questions as
one text per task, without pictures, which is enough to score answers.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from eval.answers import some
from eval.rows import read_text

logger = logging.getLogger(__name__)

# Task -> questions in the eval tool. Later downloads of the benchmark lack a few pictures.
PERCEPTION = {
    "existence": 60, "count": 60, "position": 60, "color": 60, "posters": 294,
    "celebrity": 340, "scene": 400, "landmark": 400, "artwork": 400, "OCR": 40,
}  # fmt: skip
COGNITION = {
    "commonsense_reasoning": 140, "numerical_calculation": 40, "text_translation": 40,
    "code_reasoning": 40,
}  # fmt: skip
TASKS = PERCEPTION | COGNITION
# Where the folders of tasks lie, and where the eval tool's texts; relative to the data root.
RELEASES = (
    "MME_Benchmark_release_version/MME_Benchmark",
    "MME_Benchmark_release_version",
    "MME_Benchmark",
    ".",
)
TOOLS = ("eval_tool/Your_Results", "Your_Results", ".")
PICTURES = (".jpg", ".jpeg", ".png")
LACKING = 2  # pictures of a task that a later download may lack; more is half of a folder, or file
OFFICIAL_SUFFIX = "Please answer yes or no."
LLAVA_SUFFIX = "Answer the question using a single word or phrase."


Key = tuple[str, str, str]
"""Task, picture without folder and suffix, and the bare question: what names a question."""


@dataclass(frozen=True)
class Row:
    """One question as the files have it; `image` is relative to the data root."""

    task: str
    image: str
    question: str
    label: str

    @property
    def key(self) -> Key:
        return question_key(self.task, self.image, self.question)


def bare_question(text: str) -> str:
    """The question without the request for a short answer, MME's own or LLaVA's."""
    text = text.strip()
    for suffix in (LLAVA_SUFFIX, OFFICIAL_SUFFIX):
        text = text.removesuffix(suffix).rstrip()
    return text


def question_key(task: str, picture: str, text: str) -> Key:
    """What LLaVA's convert_answer_to_mme.py matches by; seven questions have a doubled blank."""
    stem = PurePosixPath(picture).name.split(".")[0]
    return task, stem, bare_question(" ".join(text.split()))


def question_files(root: Path) -> list[Path]:
    """The texts that hold the questions; those beside pictures come before the eval tool's.

    Raises:
        FileNotFoundError: the root holds neither form.
    """
    found = _release_texts(root) or _tool_texts(root)
    if not found:
        raise FileNotFoundError(
            f"{root}: no MME here; --data-root must hold MME_Benchmark_release_version/<task>/ or "
            "the eval tool's Your_Results/<task>.txt."
        )
    return found


def _release_texts(root: Path) -> list[Path]:
    """One text per picture, from the first place that has any."""
    for base in (root / release for release in RELEASES):
        found = [path for task in TASKS for path in _texts(_qa_folder(base / task))]
        if found:
            return found
    return []


def _tool_texts(root: Path) -> list[Path]:
    """One text per task, from the first place that has any."""
    for base in (root / tool for tool in TOOLS):
        found = [base / f"{task}.txt" for task in TASKS if (base / f"{task}.txt").is_file()]
        if found:
            return found
    return []


def _qa_folder(folder: Path) -> Path:
    """Photographs have a folder of pictures and one of texts, drawings have both in one."""
    texts = folder / "questions_answers_YN"
    return texts if texts.is_dir() else folder


def _texts(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.txt") if not path.name.startswith("."))


def read_questions(root: Path) -> list[Row]:
    """All questions, in order of task and picture.

    The questions of a few pictures that a task lacks are left out, and told. Where more are
    missing nothing is left out: answers can be scored, and a model is not asked.

    Raises:
        FileNotFoundError: no MME in the root.
        ValueError: a text that is not MME's, or a picture without two different questions.
    """
    if _release_texts(root):
        pictured = [row for path in question_files(root) for row in _picture_questions(root, path)]
        rows = _with_pictures(root, pictured)
    else:
        rows = [row for path in question_files(root) for row in _tool_questions(root, path)]
    keys = {row.key for row in rows}
    if len(keys) < len(rows):
        raise ValueError(f"{root}: {len(rows) - len(keys)} questions stand twice; remove copies.")
    for task, size in TASKS.items():
        there = sum(row.task == task for row in rows)
        if there != size:
            logger.warning("MME %s: %d questions, where the eval tool has %d", task, there, size)
    return rows


def _tool_questions(root: Path, path: Path) -> list[Row]:
    """A text of the eval tool; a fourth field is somebody's answer and does not count here."""
    task, rows = path.stem, list[Row]()
    pictures: dict[str, int] = {}
    for where, fields in _lines(path, at_least=3):
        image = f"{RELEASES[1]}/{task}/{fields[0]}"
        rows.append(Row(task, image, fields[1], _label(where, fields[2])))
        pictures[fields[0]] = pictures.get(fields[0], 0) + 1
    odd = [name for name, times in pictures.items() if times != 2]
    if odd:
        raise ValueError(f"{path}: pictures without two questions: {some(odd)}; take it anew.")
    return rows


def _picture_questions(root: Path, path: Path) -> list[Row]:
    """The two questions of one picture."""
    folder = path.parent.parent if path.parent.name == "questions_answers_YN" else path.parent
    pictures = folder / "images" if (folder / "images").is_dir() else folder
    lines = list(_lines(path, at_least=2))
    if len(lines) != 2:
        raise ValueError(f"{path}: {len(lines)} lines; MME asks two questions of a picture.")
    names = [f"{path.stem}{suffix}" for suffix in PICTURES]
    name = next((name for name in names if (pictures / name).is_file()), names[0])
    image = (pictures / name).relative_to(root).as_posix()
    return [Row(folder.name, image, f[0], _label(where, f[1])) for where, f in lines]


def _with_pictures(root: Path, rows: Sequence[Row]) -> list[Row]:
    """The rows without those of tasks' few missing pictures."""
    images = {row.image: row.task for row in rows}
    missing = [image for image in images if not (root / image).is_file()]
    of_task = Counter(images[image] for image in missing)
    whole = Counter(images.values())
    few = {task for task, n in of_task.items() if n <= LACKING and n < whole[task]}
    for image in missing:
        if images[image] in few:
            logger.warning("%s: no such picture; its questions are left out", root / image)
    absent = {image for image in missing if images[image] in few}
    return [row for row in rows if row.image not in absent]


def _label(where: str, text: str) -> str:
    label = text.strip().lower()
    if label not in ("yes", "no"):
        raise ValueError(f"{where}: right answer {text!r:.60} is neither Yes nor No.")
    return label


def _lines(path: Path, at_least: int) -> Iterator[tuple[str, list[str]]]:
    """Place and fields of each line; the empty end of a file is no line."""
    text = read_text(path).replace("\r\n", "\n").replace("\r", "\n").rstrip("\n")
    for number, line in enumerate(text.split("\n") if text else (), start=1):
        fields = line.split("\t")
        if len(fields) < at_least:
            raise ValueError(
                f"{path}, line {number}: {len(fields)} fields between tabs, not {at_least}; "
                "every line must be whole, and no response may hold a line end."
            )
        yield f"{path}, line {number}", fields


def tool_answers(path: Path, known: Mapping[Key, str]) -> list[tuple[Key, str]]:
    """Answers as the eval tool takes them: a folder of <task>.txt, or one of these texts.

    A line is picture, question, right answer, response. `known` are the right answers.

    Raises:
        ValueError: another file in the folder, a tab or line end in a response, or a question
            or right answer that the data do not have.
    """
    paths = _texts(path) if path.is_dir() else [path]
    strange = [file.name for file in paths if file.stem not in TASKS]
    if strange or not paths:
        raise ValueError(
            f"{path}: the eval tool's answers are one <task>.txt for each task, found "
            f"{some(strange) or 'none'}; give the folder that holds them."
        )
    answers: list[tuple[Key, str]] = []
    for file in paths:
        for where, fields in _lines(file, at_least=4):
            if len(fields) > 4:
                raise ValueError(f"{where}: a tab in the response; put a blank in its place.")
            key = question_key(file.stem, fields[0], fields[1])
            if known.get(key) != _label(where, fields[2]):
                raise ValueError(
                    f"{where}: {fields[1]!r:.80} with the answer {fields[2]} is not asked of "
                    f"{fields[0]}; the file belongs to another version of the data?"
                )
            answers.append((key, fields[3]))
    return answers
