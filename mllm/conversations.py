"""Reader of conversations in LLaVA's json, as LLaVA-Pretrain and LLaVA-Instruct ship it.

    [{"id": "1", "image": "coco/1.jpg", "conversations": [
        {"from": "human", "value": "<image>\\nWhat is this?"}, {"from": "gpt", "value": "A cat."}]}]

Rows without `image` are text only. Everything that can be known without decoding a picture is
checked here, before training: one `ConversationError` names file, row and remedy.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from mllm.template import IMAGE_TOKEN

_ROLES = ("human", "gpt")


class ConversationError(ValueError):
    """A row that cannot be trained on; the message names file, row and remedy."""


@dataclass(frozen=True)
class Conversation:
    """One row. `turns` alternate human, assistant, human, …; no turn holds `<image>`: the
    picture, when there is one, stands before the first question (LLaVA moves it there too)."""

    source: str  # "file: row id", for messages
    image: Path | None
    turns: tuple[str, ...]

    def messages(self) -> list[dict[str, Any]]:
        """The row as transformers' chat messages; the picture is an item without data."""
        messages = []
        for position, turn in enumerate(self.turns):
            role = ("user", "assistant")[position % 2]
            content: str | list[dict[str, str]] = turn
            if position == 0 and self.image is not None:
                content = [{"type": "image"}, {"type": "text", "text": turn}]
            messages.append({"role": role, "content": content})
        return messages


class Conversations(Dataset[Conversation]):
    """All rows of several files, in the order of the files."""

    def __init__(self, files: Iterable[str | Path], image_root: str | Path) -> None:
        """Read and check every row.

        Args:
            files: LLaVA json files.
            image_root: the folder that the rows' `image` paths are relative to.

        Raises:
            ConversationError: the first row that is wrong.
        """
        self.rows = [row for file in files for row in _read_file(Path(file), Path(image_root))]
        if not self.rows:
            raise ConversationError("the conversation files hold no row: give at least one")

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Conversation:
        return self.rows[index]


def _read_file(file: Path, image_root: Path) -> list[Conversation]:
    if not file.is_file():
        raise ConversationError(f"{file} does not exist: check `conversations` in the recipe")
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConversationError(f"{file} is no JSON ({error}): repair or write it again") from error
    if not isinstance(rows, list):
        raise ConversationError(f"{file} holds no JSON list of rows: wrap the rows in [ ]")
    return [_read_row(row, position, file, image_root) for position, row in enumerate(rows)]


def _read_row(row: Any, position: int, file: Path, image_root: Path) -> Conversation:
    if not isinstance(row, dict):
        raise ConversationError(f"{file}: row {position} is no object: remove or repair it")
    source = f"{file}: row {position} (id {row.get('id', 'absent')})"
    turns = _read_turns(row.get("conversations"), source)
    name = row.get("image")
    if name is not None and not isinstance(name, str):
        raise ConversationError(f"{source}: `image` must be one path, not {name!r}")
    image = None if name is None else image_root / name
    turns[0] = _without_placeholder(turns, image, source)
    if image is not None and not image.is_file():
        raise ConversationError(
            f"{source}: the image {image} does not exist: check `image_root`, add the file or "
            "remove the row"
        )
    return Conversation(source, image, tuple(turns))


def _read_turns(turns: Any, source: str) -> list[str]:
    if not isinstance(turns, list) or len(turns) < 2 or len(turns) % 2:
        raise ConversationError(
            f"{source}: `conversations` must be question and answer in turn, each question answered"
        )
    values = []
    for position, turn in enumerate(turns):
        expected = _ROLES[position % 2]
        if not isinstance(turn, dict) or turn.get("from") != expected:
            raise ConversationError(
                f'{source}: turn {position} must be {{"from": "{expected}", "value": …}}, '
                f"not {str(turn)[:80]}"
            )
        value = turn.get("value")
        if not isinstance(value, str) or not value.strip():
            raise ConversationError(
                f"{source}: turn {position} ({expected}) has no text: fill it or remove the row"
            )
        values.append(value)
    return values


def _without_placeholder(turns: list[str], image: Path | None, source: str) -> str:
    """The first question without its `<image>`, after checking that the row holds as many as it
    needs."""
    found = [
        position for position, turn in enumerate(turns) for _ in range(turn.count(IMAGE_TOKEN))
    ]
    if image is None and found:
        raise ConversationError(
            f"{source}: turn {found[0]} says {IMAGE_TOKEN} but the row has no `image`: add the "
            "path or remove the placeholder"
        )
    if image is not None and found != [0]:
        raise ConversationError(
            f"{source}: a row with `image` needs {IMAGE_TOKEN} exactly once, in the first human "
            f"turn (found in turns {found})"
        )
    return turns[0].replace(IMAGE_TOKEN, "").strip()
