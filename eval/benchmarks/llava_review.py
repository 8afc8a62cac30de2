"""LLaVA's reviews (eval_gpt_review_bench.py): what a judge is asked, and how its reply is read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import TypeAlias

from eval.rows import read_json_rows

CATEGORIES = ("conv", "detail", "complex")
UNREADABLE = (-1.0, -1.0)  # what parse_score says, and summarize_gpt_review.py averages
Rule: TypeAlias = tuple[str, str]
"""Who answers, by name, and what the judge is told."""
_NUMBER = r"\d+(?:\.\d+)?"
_PAIR = re.compile(rf"({_NUMBER})(?:\s*,\s*|\s+)({_NUMBER})")


def official_scores(reply: str) -> tuple[float, float]:
    """parse_score: two numbers with one blank or comma between on the first line, else -1, -1.

    So "8, 7" is unreadable, and so is a reply that begins with an empty line. "nan" and "inf",
    which Python takes for numbers, are unreadable here: no mean would be left.
    """
    words = reply.split("\n")[0].replace(",", " ").split(" ")
    try:
        scores = [float(word) for word in words]
    except ValueError:
        return UNREADABLE
    if len(scores) != 2 or not all(isfinite(score) for score in scores):
        return UNREADABLE
    return scores[0], scores[1]


def careful_scores(reply: str) -> tuple[float, float] | None:
    """The two scores from 1 to 10 that make up the first line with text; None where they do not."""
    lines = reply.strip().splitlines()
    pair = _PAIR.fullmatch(lines[0].strip()) if lines else None
    scores = (float(pair[1]), float(pair[2])) if pair else (0.0, 0.0)
    return scores if all(1 <= score <= 10 for score in scores) else None


def captions_of(path: Path) -> dict[str, str]:
    """What each picture shows, by the picture's name (context.jsonl).

    Raises:
        ValueError: a caption that is no text.
    """
    return {str(row.get("image")): _caption(path, row) for row in read_json_rows(path)}


def rules_of(path: Path) -> dict[str, Rule]:
    """LLaVA's rule.json: the rule of each category of the benchmark.

    Raises:
        ValueError: another file.
    """
    rows = read_json_rows(path)
    rules = rows[0] if len(rows) == 1 else {}
    found: dict[str, Rule] = {}
    for category in CATEGORIES:
        match rules.get(f"llava_bench_{category}"):
            case {"role": str(role), "prompt": str(prompt)}:
                found[category] = (role, prompt)
            case _:
                raise ValueError(f"{path}: no rule llava_bench_{category}; take LLaVA's file.")
    return found


def review_prompt(rule: Rule, context: str, question: str, first: str, second: str) -> str:
    """What the judge is asked about two answers, word for word as the official script."""
    role, told = rule
    parts = [f"[Context]\n{context}", f"[Question]\n{question}"]
    for number, text in enumerate((first, second), start=1):
        parts += [f"[{role} {number}]\n{text}", f"[End of {role} {number}]"]
    return "\n\n".join([*parts, f"[System]\n{told}", ""])


def _caption(path: Path, row: Mapping[str, object]) -> str:
    """A list of sentences goes line by line, as officially. One text is taken whole; the official
    script, made for lists, would put each of its letters on a line of its own."""
    match row.get("caption"):
        case str(caption):
            return caption
        case [*sentences] if sentences and all(isinstance(text, str) for text in sentences):
            return "\n".join(sentences)
    raise ValueError(f"{path}: the caption of {row.get('image')} is no text; take the file again.")
