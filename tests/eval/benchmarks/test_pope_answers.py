"""Files of answers to POPE: every released form, and every file that does not say what it is."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from openpyxl import Workbook

from eval import run
from eval.benchmarks.pope import SUFFIX, Pope
from eval.benchmarks.pope_answers import ID_OFFSET, SPLITS
from eval.registry import find_benchmark
from eval.result import point_metrics, read_result

Fields = dict[str, object]
Rows = list[Fields]
POPE = Pope()


@pytest.fixture
def data(tmp_path: Path) -> dict[str, Rows]:
    """As in the real files: the yes-question is the same in all splits, the no-question differs."""
    folder = tmp_path / "pope"
    rows: dict[str, Rows] = {}
    for split in SPLITS:
        rows[split] = [
            {"question_id": 1, "image": "COCO_1.jpg", "text": "Is there a dog in the image?",
             "label": "yes"},
            {"question_id": 2, "image": "COCO_1.jpg", "text": f"Is there a {split} in the image?",
             "label": "no"},
        ]  # fmt: skip
        save(folder / f"coco_pope_{split}.json", rows[split])
    return rows


@pytest.fixture
def root(data: dict[str, Rows], tmp_path: Path) -> Path:
    assert data
    return tmp_path / "pope"


def save(path: Path, rows: Sequence[Fields]) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read(root: Path, path: Path) -> list[tuple[str, str]]:
    return list(POPE.read_answers(path, POPE.load(root)))


def llava_rows(data: dict[str, Rows], *splits: str) -> Rows:
    return [
        {
            "question_id": ID_OFFSET[split] + int(str(row["question_id"])),
            "prompt": f"{row['text']}{SUFFIX}",
            "text": f"{split} {row['label']}",
        }
        for split in splits or SPLITS
        for row in data[split]
    ]


def vcd_rows(data: dict[str, Rows], split: str) -> Rows:
    """A file of one split, as VCD, OPERA and their kin write them."""
    return [
        {
            "question_id": row["question_id"],
            "prompt": f"{row['text']} Please answer this question with one word.",
            "text": row["label"],
            "model_id": "llava-v1.5-7b",
            "image": row["image"],
            "metadata": {},
        }
        for row in data[split]
    ]


def own_ids(split: str) -> list[str]:
    return [str(ID_OFFSET[split] + number) for number in (1, 2)]


def test_llavas_ids(data: dict[str, Rows], root: Path, tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", llava_rows(data))
    ids = [i for split in SPLITS for i in own_ids(split)]
    assert [i for i, _ in read(root, path)] == ids
    without_prompts = [{k: row[k] for k in ("question_id", "text")} for row in llava_rows(data)]
    assert [i for i, _ in read(root, save(path, without_prompts))] == ids


@pytest.mark.parametrize("split", SPLITS)
def test_a_file_of_one_split_with_ids(
    data: dict[str, Rows], root: Path, tmp_path: Path, split: str
) -> None:
    path = save(tmp_path / "a.jsonl", vcd_rows(data, split)[::-1])
    assert read(root, path) == [*zip(own_ids(split), ("yes", "no"), strict=True)][::-1]


def test_the_random_split_is_not_scored_as_adversarial(
    data: dict[str, Rows], root: Path, tmp_path: Path
) -> None:
    path = save(tmp_path / "a.jsonl", vcd_rows(data, "random"))
    given = ["--benchmark", "pope", "--data-root", root, "--answers", path, "--output", tmp_path]
    assert run.main([str(argument) for argument in given]) == 0
    metrics = point_metrics(POPE, read_result(tmp_path / "pope.json").units)
    assert metrics["random/f1"] == 1
    assert "adversarial/f1" not in metrics
    assert metrics["mean_f1"] != metrics["mean_f1"]  # NaN: one split is no POPE


@pytest.mark.parametrize("split", SPLITS)
def test_a_file_of_one_split_in_its_order(
    data: dict[str, Rows], root: Path, tmp_path: Path, split: str
) -> None:
    """POPE's own form; also its question file with the answers beside the questions."""
    official = [{"question": row["text"], "answer": row["label"]} for row in data[split]]
    expected = [*zip(own_ids(split), ("yes", "no"), strict=True)]
    assert read(root, save(tmp_path / "a.json", official)) == expected
    beside = [row | {"answer": row["label"]} for row in data[split]]
    assert read(root, save(tmp_path / "a.json", beside)) == expected


@pytest.mark.parametrize("suffix", ["tsv", "xlsx"])
def test_vlmevalkits_files(data: dict[str, Rows], root: Path, tmp_path: Path, suffix: str) -> None:
    yes = data["random"][0]
    columns = ["index", "question", "answer", "category", "image_path", "prediction"]
    table = [["0", yes["text"], "Yes", "adversarial,popular,random", "COCO_1.jpg", "Yes."]]
    table += [[str(n), data[s][1]["text"], "No", s, "COCO_1.jpg", f"no {s}"]
              for n, s in enumerate(SPLITS, start=1)]  # fmt: skip
    path = tmp_path / f"model_POPE.{suffix}"
    if suffix == "tsv":
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, delimiter="\t").writerows([columns, *table])
    else:
        book = Workbook()
        for line in [columns, *table]:
            book.worksheets[0].append(line)
        book.save(path)
    expected = {own_ids(s)[0]: "Yes." for s in SPLITS} | {own_ids(s)[1]: f"no {s}" for s in SPLITS}
    assert dict(read(root, path)) == expected


def lmms_eval_rows(data: dict[str, Rows]) -> Rows:
    return [
        {
            "doc_id": number,
            "doc": {"id": str(number), "question_id": str(row["question_id"]),
                    "question": row["text"], "answer": "maybe", "category": split,
                    "image_source": str(row["image"]).removesuffix(".jpg")},
            "target": row["label"],
            "resps": [[" No"]],
            "filtered_resps": [f"No {split}"],
        }
        for split in ("adversarial", "popular", "random")
        for number, row in enumerate(data[split])
    ]  # fmt: skip


def test_lmms_evals_samples(data: dict[str, Rows], root: Path, tmp_path: Path) -> None:
    path = save(tmp_path / "samples.jsonl", lmms_eval_rows(data))
    assert dict(read(root, path)) == {i: f"No {s}" for s in SPLITS for i in own_ids(s)}


def test_a_column_category_beside_llavas_ids(
    data: dict[str, Rows], root: Path, tmp_path: Path
) -> None:
    rows = [row | {"category": split} for split in SPLITS for row in llava_rows(data, split)]
    ids = [i for split in SPLITS for i in own_ids(split)]
    assert [i for i, _ in read(root, save(tmp_path / "a.jsonl", rows))] == ids


def test_a_model_may_echo_questions(data: dict[str, Rows], root: Path, tmp_path: Path) -> None:
    rows = [row | {"text": "Is there a cat in the image?"} for row in vcd_rows(data, "popular")]
    rows[0]["text"] = "Is there a dog in the image? Yes"
    assert [i for i, _ in read(root, save(tmp_path / "a.jsonl", rows))] == own_ids("popular")


Change = Callable[[dict[str, Rows]], Rows]
BAD: dict[str, tuple[Change, str]] = {
    "one split, nothing to tell it by": (
        lambda data: [{"question_id": n, "text": "Yes"} for n in (1, 2)],
        "row 1: holds neither question nor picture, and its id does not say which split",
    ),
    "one row that says nothing": (
        lambda data: [vcd_rows(data, "random")[0], {"question_id": 2, "text": "Yes"}],
        "row 2: holds neither question nor picture",
    ),
    "only what all splits ask": (
        lambda data: vcd_rows(data, "random")[:1],
        "its rows fit random and popular and adversarial (1 rows)",
    ),
    "three splits in one file": (
        lambda data: [row for split in SPLITS for row in vcd_rows(data, split)],
        "its rows fit no split (random: row 4 asks 'Is there a popular in the image? Please",
    ),
    "ids of two numberings": (
        lambda data: [*vcd_rows(data, "popular"), *llava_rows(data, "random")],
        "row 2: asks 'Is there a popular in the image? Please",
    ),
    "another version's spelling": (
        lambda data: [
            row | {"prompt": str(row["prompt"]).replace("image", "imange")}
            for row in llava_rows(data)
        ],
        "row 1: asks 'Is there a dog in the imange? Answer",
    ),
    "another picture": (
        lambda data: [row | {"image": "COCO_9.jpg"} for row in vcd_rows(data, "random")],
        "its rows fit no split (random: row 1 shows 'COCO_9', the question 'COCO_1'",
    ),
    "reordered, without ids": (
        lambda data: [
            {"question": row["text"], "answer": row["label"]} for row in data["random"][::-1]
        ],
        "its rows fit no split (random: row 1 asks 'Is there a random in the image?'",
    ),
    "torn, without ids": (
        lambda data: [{"question": data["random"][0]["text"], "answer": "yes"}],
        "its rows fit no split (1 rows)",
    ),
    "torn, with ids": (
        lambda data: vcd_rows(data, "random")[1:],
        "1 of 2 questions of pope have no answer: 10000001",
    ),
    "answered twice": (
        lambda data: [*vcd_rows(data, "random"), vcd_rows(data, "random")[0]],
        "answered more than once: 10000001",
    ),
    "more questions than there are": (
        lambda data: [*vcd_rows(data, "random"), vcd_rows(data, "random")[0] | {"question_id": 3}],
        "its rows fit no split (random: row 3 there is no such question",
    ),
    "an unknown id of LLaVA's": (
        lambda data: [*llava_rows(data), {"question_id": 10000003, "text": "no"}],
        "1 answers to questions that pope does not have: 10000003",
    ),
    "the question file itself": (
        lambda data: data["adversarial"],
        "row 1: none of the fields prediction, ",
    ),
    "neither id nor question": (
        lambda data: [{"answer": "yes"}],
        "row 1: none of the fields question_id",
    ),
    "another benchmark's ids": (
        lambda data: [{"question_id": "VD_1", "prompt": "Is it?", "image": "COCO_1.jpg",
                       "text": "no"}],
        "its rows fit no split (random: row 1 there is no such question",
    ),
    "an unknown category": (
        lambda data: [{"category": "hard", "question_id": 1, "prediction": "no"}],
        "row 1: category 'hard' is none of random, popular, adversarial",
    ),
    "a category in some rows": (
        lambda data: [*lmms_eval_rows(data), *vcd_rows(data, "random")],
        "row 7: category 'None' is none of random",
    ),
    "the wrong category": (
        lambda data: [vcd_rows(data, "random")[1] | {"category": "popular"}],
        "the question is 'Is there a popular in the image?'; the file belongs to another",
    ),
    "a category, and nothing else": (
        lambda data: [{"index": 0, "category": "popular,random", "prediction": "no"}],
        "row 1: there is no question None about picture None in popular",
    ),
    "no rows": (lambda data: [], "6 of 6 questions of pope have no answer"),
    "no text": (
        lambda data: [row | {"text": 1} for row in vcd_rows(data, "random")],
        "row 1: answer 1 is no string",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_files(
    data: dict[str, Rows],
    root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    case: str,
) -> None:
    change, message = BAD[case]
    path = save(tmp_path / "a.jsonl", change(data))
    given = ["--benchmark", "pope", "--data-root", root, "--answers", path]
    assert run.main([str(argument) for argument in given]) == 1
    assert message in " ".join(capsys.readouterr().err.split())


def test_broken_line_and_bom(data: dict[str, Rows], root: Path, tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", vcd_rows(data, "random"))
    text = path.read_text()
    path.write_text("\ufeff" + text.replace("\n", "\r\n"), encoding="utf-8")
    assert [i for i, _ in read(root, path)] == own_ids("random")
    path.write_text(text[:-20])
    with pytest.raises(ValueError, match=r"a\.jsonl, line 2: broken json"):
        read(root, path)


def test_empty_long_and_foreign_answers_are_counted(
    data: dict[str, Rows], root: Path, tmp_path: Path
) -> None:
    texts = ["", "いいえ", "yes" * 350_000, "No " * 350_000, "nein", "YES"]
    rows = [row | {"text": text} for row, text in zip(llava_rows(data), texts, strict=True)]
    questions = POPE.load(root)
    answers = dict(POPE.read_answers(save(tmp_path / "a.jsonl", rows), questions))
    metrics = point_metrics(POPE, POPE.score(root, questions, answers))
    assert [metrics[f"{split}/unreadable"] for split in SPLITS] == [1, 0.5, 0.5]
    assert metrics["random/yes_ratio"] == 1  # the official rule's: what is no "no" is a yes


@pytest.mark.parametrize("name", ["pope", "pope_aokvqa", "pope_gqa"])
@pytest.mark.parametrize("split", SPLITS)
def test_official_questions_tell_their_split(
    shared: Path, tmp_path: Path, name: str, split: str
) -> None:
    """With ids and without, a third of the rows being the same in all splits."""
    benchmark = find_benchmark(name)
    assert isinstance(benchmark, Pope)
    questions = benchmark.load(shared / "pope")
    assert len(questions) == 9000
    ids = [question.id for question in questions if question.category == split]
    text = (shared / "pope" / f"{benchmark.prefix}_{split}.json").read_text()
    rows = json.loads(text) if text[0] == "[" else [json.loads(x) for x in text.splitlines()]
    table = {split: rows}
    path = save(tmp_path / "a.jsonl", vcd_rows(table, split))
    assert [i for i, _ in benchmark.read_answers(path, questions)] == ids
    save(path, [{"question": row["text"], "answer": row["label"]} for row in rows])
    assert [i for i, _ in benchmark.read_answers(path, questions)] == ids


def test_answers_to_llavas_version_are_no_answers_to_todays(shared: Path) -> None:
    released = shared / "pope/llava15_version/answers_llava-v1.5-13b.jsonl"
    with pytest.raises(ValueError, match="row 11: asks 'Is there an umbrella in the imange"):
        POPE.read_answers(released, POPE.load(shared / "pope"))


def test_pictures_of_the_other_sets(tmp_path: Path, data: dict[str, Rows]) -> None:
    """GQA's lie in gqa/images, which does not hide COCO's val2014 from the others."""
    folder = tmp_path / "pope"
    (folder / "gqa/images").mkdir(parents=True)
    (folder / "val2014").mkdir()
    for split in SPLITS:
        for prefix in ("gqa", "aokvqa"):
            save(folder / f"{prefix}_pope_seem_{split}.json", data[split])
    found = {}
    for name in ("pope", "pope_aokvqa", "pope_gqa"):
        benchmark = find_benchmark(name)
        assert isinstance(benchmark, Pope)
        found[name] = benchmark.load(folder)[0].image
    assert found == {
        "pope": "val2014/COCO_1.jpg",
        "pope_aokvqa": "val2014/COCO_1.jpg",
        "pope_gqa": "gqa/images/COCO_1.jpg",
    }
