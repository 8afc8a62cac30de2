"""AMBER's annotations: what is in a picture, what is not, and which words stand for it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from eval.rows import read_json_rows

CAPTIONS = "captions"
CATEGORY = {
    "generative": CAPTIONS,
    "discriminative-hallucination": "existence",
    "discriminative-attribute-state": "state",
    "discriminative-attribute-number": "number",
    "discriminative-attribute-action": "action",
    "discriminative-relation": "relation",
    "relation": "relation",
}


@dataclass(frozen=True)
class Truth:
    """One row of annotations.json: a picture's things, or ("yes",) or ("no",)."""

    category: str
    truth: tuple[str, ...]
    hallu: tuple[str, ...]


def read_annotations(path: Path) -> dict[str, Truth]:
    """Annotations by id.

    Raises:
        ValueError: a row that is no annotation of AMBER's, or an id that stands twice.
    """
    truths: dict[str, Truth] = {}
    for number, row in enumerate(read_json_rows(path), start=1):
        where = f"{path}, row {number}"
        category = CATEGORY.get(str(row.get("type")))
        if category is None:
            raise ValueError(
                f"{where}: unknown type {row.get('type')!r}; AMBER's are {', '.join(CATEGORY)}."
            )
        truth, hallu = row.get("truth"), row.get("hallu")
        if category == CAPTIONS:
            if not isinstance(truth, list) or not isinstance(hallu, list):
                raise ValueError(f"{where}: a caption needs the lists truth and hallu.")
            found = Truth(category, tuple(map(str, truth)), tuple(map(str, hallu)))
        elif truth in ("yes", "no"):
            found = Truth(category, (str(truth),), ())
        else:
            raise ValueError(f"{where}: truth {truth!r} is neither yes nor no.")
        if str(row.get("id")) in truths:
            raise ValueError(f"{where}: id {row.get('id')} stands twice; take the official file.")
        truths[str(row.get("id"))] = found
    return truths


def read_relation(path: Path, truths: Mapping[str, Truth]) -> dict[str, list[str]]:
    """Words that stand for a thing, by thing.

    Raises:
        ValueError: broken json, or a thing that annotations.json names is not in it.
    """
    try:
        relation: dict[str, list[str]] = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"{path}: broken json ({error}); take the file again.") from error
    captions = (truth for truth in truths.values() if truth.category == CAPTIONS)
    things = {thing for truth in captions for thing in truth.truth + truth.hallu}
    if unknown := sorted(things - relation.keys()):
        raise ValueError(
            f"{path}: lacks {', '.join(unknown[:5])}, which annotations.json names; take both "
            "from one version of AMBER's repository."
        )
    return relation
