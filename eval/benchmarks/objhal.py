"""Object HalBench: CHAIR with a language model that lists an answer's objects (Rohrbach et al.
2018; Yu et al. 2024, RLHF-V), without spaCy.

Questions, synonyms, prompt and counts are those of RLHF-V (eval/eval_gpt_obj_halbench.py); ground
truth is COCO's masks and captions, as for CHAIR. Two things differ, so that published scores are
near but not the same: the words of an object's name are read without spaCy's en_core_web_trf and
WordNet (eval/benchmarks/object_names.py, `ObjHal.tagger` takes another reader), and a judge is
asked once, where the original asks gpt-3.5-turbo-0613 again until its reply is a JSON list.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from eval.answers import ANSWER_TOO, AnswerRow, answer_rows, answers_to
from eval.benchmark import Answers, Counts, Kind, Question, Unit, ratio
from eval.benchmarks.chair import CAPTIONS, INSTANCES, GroundTruth, coco_objects
from eval.benchmarks.object_names import Phrase, named_objects, refined_reader, tagged
from eval.judging import needs_judge, prompt_of_script
from eval.pictures import cell_name
from eval.rows import read_json_rows, require_ids

QUESTIONS, SYNONYMS = "obj_halbench_300_with_image.jsonl", "synonyms_refine.txt"
SCRIPT = "eval_gpt_obj_halbench.py"
SHORT = 3  # answers of so many words name no objects, and no judge is asked about them
_LIST = re.compile(r"\[[^\[\]]*\]|\(\s*\)")

KINDS = {
    "response_hall": Kind("answers with a hallucination, of those that name objects", "lower"),
    "object_hall": Kind("hallucinated objects, of those named", "lower"),
    "all_response_hall": Kind("answers with a hallucination, of all", "lower"),
    "object_recall": Kind("objects named (recall)"),
    "naming": Kind("answers that name objects", "neither"),
    "mean_length": Kind("mean length in words", "neither", share=False),
    "mended": Kind("verdicts read though the original would ask again", "neither"),
    "unreadable": Kind("unreadable verdicts (left out)", "lower"),
}


def official_list(reply: str) -> list[str] | None:
    """parse_object_list: the reply is a JSON list, or its last line is; None asks again."""
    for text in (reply, reply.strip().split("\n")[-1] if '["' in reply else ""):
        listed = _strings(text)
        if listed is not None:
            return listed
    return None


def careful_list(reply: str) -> list[str] | None:
    """The last JSON list of texts in the reply; "()" is the empty list that the prompt asks for."""
    lists = [[] if text[0] == "(" else _strings(text) for text in _LIST.findall(reply)]
    return next((listed for listed in reversed(lists) if listed is not None), None)


def _strings(text: str) -> list[str] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    listed = isinstance(value, list) and all(isinstance(item, str) for item in value)
    return value if listed else None


@dataclass(frozen=True)
class ObjHal:
    """Object HalBench. Question ids are COCO image ids."""

    tagger: Callable[[str], Phrase] = tagged
    name: str = "objhal"
    title: str = "Object HalBench, without spaCy"
    folder: str = "objhal"
    parser: str = "objhal-rlhfv-1, without spaCy"
    max_new_tokens: int = 512
    judge_max_new_tokens: int = 512
    judge_required: bool = True
    headlines: tuple[str, ...] = ("response_hall", "object_hall")

    @property
    def kinds(self) -> Mapping[str, Kind]:
        return KINDS

    def files(self, root: Path) -> list[Path]:
        """Questions, synonyms and COCO's annotations."""
        paths = [root / n for n in (QUESTIONS, SYNONYMS, INSTANCES, CAPTIONS)]
        for path in paths:
            if not path.is_file():
                raise FileNotFoundError(
                    f"{path}: no such file; the annotations are COCO's, the others are RLHF-V's "
                    "(eval/data, eval)."
                )
        return paths

    def load(self, root: Path) -> list[Question]:
        """One question per row; labels are the picture's objects."""
        path, synonyms, instances, captions = self.files(root)
        truth = coco_objects(instances, captions, refined_reader(synonyms))
        questions = [_question(path, n, row, truth) for n, row in enumerate(read_json_rows(path))]
        require_ids(path, "image_id", [question.id for question in questions])
        return questions

    def part(self, question: Question) -> str:
        return ""

    def read_answers(self, path: Path, questions: Sequence[Question]) -> Answers:
        """Rows with an image_id, or a question_id that is one; "Assistant:" is cut out, as
        officially."""
        pairs = _by_id(answer_rows(path, ANSWER_TOO), questions)
        return [(identity, text.replace("Assistant:", "").strip()) for identity, text in pairs]

    def score(
        self, root: Path, questions: Sequence[Question], answers: Mapping[str, str]
    ) -> list[Unit]:
        raise needs_judge(self.title)

    def needs_verdict(self, question: Question, answer: str) -> bool:
        """Answers of up to three words name no objects."""
        return len(answer.split()) > SHORT

    def judge_questions(
        self, root: Path, questions: Sequence[Question], answers: Mapping[str, str]
    ) -> list[Question]:
        """The official prompt, as the user's turn."""
        prompt = prompt_of_script(root / SCRIPT, "prompt_template", ("{question}", "{answer}"))
        return [
            replace(
                q,
                prompt=prompt.replace("{question}", q.prompt).replace("{answer}", answers[q.id]),
                image=None,
            )
            for q in questions
            if self.needs_verdict(q, answers[q.id])
        ]

    def read_verdicts(self, path: Path, questions: Sequence[Question]) -> Answers:
        """Rows of image_id or question_id and text, or the file that the official script saves,
        whose `words` are the objects as it read them."""
        rows = read_json_rows(path)
        if len(rows) == 1 and "sentences" in rows[0]:
            return _sentences(path, rows[0]["sentences"])
        return _by_id(answer_rows(path), questions)

    def score_verdicts(
        self,
        root: Path,
        questions: Sequence[Question],
        answers: Mapping[str, str],
        verdicts: Mapping[str, str],
    ) -> list[Unit]:
        """One unit per answer, right where it invents nothing that can be read."""
        reader = refined_reader(root / SYNONYMS)
        units: list[Unit] = []
        for q in questions:
            reply = verdicts[q.id] if self.needs_verdict(q, answers[q.id]) else "[]"
            strict = official_list(reply)
            listed = careful_list(reply) if strict is None else strict
            named = None if listed is None else named_objects(reader, listed, self.tagger)
            mended = strict is None and listed is not None
            units.append(_unit(q, answers[q.id], named, mended))
        return units

    def metrics(self, sums: Counts) -> dict[str, np.ndarray]:
        readable = sums["n"] - sums["unreadable"]
        return {
            "response_hall": ratio(sums["any"], sums["naming"]),
            "object_hall": ratio(sums["hallucinated"], sums["named"]),
            "all_response_hall": ratio(sums["any"], readable),
            "object_recall": ratio(sums["objects_named"], sums["objects"]),
            "naming": ratio(sums["naming"], readable),
            "mean_length": ratio(sums["words"], sums["n"]),
            "mended": ratio(sums["mended"], sums["n"]),
            "unreadable": ratio(sums["unreadable"], sums["n"]),
        }


def _identity(identity: str) -> str:
    """COCO's image id as a number; some files fill it up with zeros."""
    return str(int(identity)) if identity.isdecimal() else identity


def _by_id(rows: Sequence[AnswerRow], questions: Sequence[Question]) -> Answers:
    words = {question.id: question.prompt for question in questions}
    named = ((_identity(row.identity("image_id", "question_id")), row) for row in rows)
    return answers_to(words, named)


def _question(path: Path, row: int, fields: Mapping[str, object], truth: GroundTruth) -> Question:
    identity, text = fields.get("image_id"), fields.get("question")
    if not isinstance(identity, (int, str)) or not isinstance(text, str) or not text:
        raise ValueError(f"{path}, row {row + 1}: needs image_id, question and image.")
    known = _identity(str(identity))
    if known not in truth.objects:
        raise ValueError(f"{path}, row {row + 1}: COCO's annotations have no picture {identity}.")
    label = ", ".join(sorted(truth.objects[known]))
    return Question(known, text, cell_name(path.name, row, "image"), label, "")


def _sentences(path: Path, sentences: object) -> Answers:
    pairs: list[tuple[str, str]] = []
    for number, sentence in enumerate(sentences if isinstance(sentences, list) else [], 1):
        match sentence:
            case {"image_id": int() | str() as identity, "words": [*words]}:
                pairs.append((_identity(str(identity)), json.dumps(words)))
            case _:
                raise ValueError(f"{path}, sentence {number}: needs image_id and a list words.")
    return pairs


def _unit(
    question: Question, answer: str, named: list[tuple[str, str]] | None, mended: bool
) -> Unit:
    truth = set(question.label.split(", ")) if question.label else set()
    objects = [node for _, node in named or []]
    wrong = [node for node in objects if node not in truth]
    counts = {
        "n": 1,
        "naming": bool(objects),
        "any": bool(wrong),
        "named": len(objects),
        "hallucinated": len(wrong),
        "objects": 0 if named is None else len(truth),
        "objects_named": len(truth & set(objects)),
        # As officially, blanks are counted: an empty answer has one word.
        "words": len(answer.strip().split(" ")),
        "mended": mended,
        "unreadable": named is None,
    }
    told = f"invented: {', '.join(sorted(set(wrong)))}" if wrong else "nothing invented"
    return Unit(
        id=question.id,
        cluster=question.id,
        counts={name: float(value) for name, value in counts.items()},
        right=named is not None and not wrong,
        category="",
        question=question.prompt,
        answer=answer,
        reading="unreadable verdict" if named is None else told,
        label=question.label,
        images=(question.image,) if question.image else (),
    )
