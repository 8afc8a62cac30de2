"""Conversations with pictures, of LLaVA's form or as transformers' chat messages.

    {"id": "1", "image": "coco/1.jpg", "conversations": [
        {"from": "human", "value": "<image>\\nWhat is this?"}, {"from": "gpt", "value": "A cat."}]}
    {"images": [...], "messages": [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is this?"}]},
        {"role": "assistant", "content": "A cat."}]}

A row has one picture (`image`), several (`image` or `images` as a list) or none; each is a path, a
data: URI, or its bytes. The items of messages may hold them instead, as transformers' `image`,
`url` or `path`, or as OpenAI's `image_url`; nothing is fetched. A turn's `<image>` comes first if
it is the row's only picture, as in LLaVA; of several, each stands where it is.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mllm.template import IMAGE_TOKEN

ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
}
Message = dict[str, Any]
Picture = Path | bytes


class ConversationError(ValueError):
    """A row that cannot be trained on; the message names file, row and remedy."""


@dataclass(frozen=True)
class Conversation:
    """One row: what was said, as transformers' chat messages, and the pictures it speaks of, whose
    places there are items without data, or `<image>`."""

    source: str  # "file: row number (id ...)", for messages
    messages: list[Message]
    pictures: tuple[Picture, ...]

    def lacks(self, picture: str | Path) -> str:
        """What to say of a picture that is not there."""
        return f"{self.source}: there is no picture {picture!s:.400} (check image_root)"


def read_conversation(values: Mapping[str, Any], source: str, image_root: Path) -> Conversation:
    """A row of either form.

    What cannot be learned is left out: answers before the first question, as in LLaVA, and a last
    question without an answer.

    Args:
        values: of the row.
        source: its file and number.
        image_root: the folder that its paths of pictures are relative to.

    Raises ConversationError.
    """
    source = f"{source} (id {values.get('id', 'absent')})"
    stored = [one for name in ("image", "images") for one in _listed(values.get(name))]
    if values.get("messages") is not None:
        messages, inside = _read_messages(values["messages"], source)
        stored = inside or stored
    else:
        messages = _read_turns(values.get("conversations"), source)
    pictures = tuple(_picture(one, image_root, source) for one in stored)
    _require_places(messages, len(pictures), source)
    place = _picture_first if len(pictures) == 1 else _in_words
    messages = [place(message) for message in messages]
    return Conversation(source, _answered(messages, source), pictures)


def _listed(stored: Any) -> list[Any]:
    if stored is None or stored == "":
        return []
    return list(stored) if isinstance(stored, (list, tuple)) else [stored]


def _picture(stored: Any, root: Path, source: str) -> Picture:
    """A picture as a row holds it: a path, a data: URI, bytes, `datasets`' struct of bytes and
    path, or the object of an `image_url`."""
    if isinstance(stored, dict):
        stored = stored.get("bytes") or stored.get("path") or stored.get("url")
    if isinstance(stored, bytes) and stored:
        return stored
    if not isinstance(stored, str) or not stored:
        raise ConversationError(f"{source}: {stored!r:.80} is no picture: give its path or bytes")
    if stored.startswith("data:"):
        return _from_data_uri(stored, source)
    if stored.startswith(("http://", "https://")):
        raise ConversationError(
            f"{source}: {stored} is on the web: download it, and give the path of the file"
        )
    # By the words of the path: what lies in the root may be a link to elsewhere.
    base = os.path.normpath(root.absolute())
    if not Path(os.path.normpath(Path(base) / stored)).is_relative_to(base):
        raise ConversationError(f"{source}: the path {stored} leads out of {root}: mend the row")
    return root / stored


def _from_data_uri(uri: str, source: str) -> bytes:
    # One in another coding stays whole, and is refused for its colon.
    _, _, data = uri.rpartition(";base64,")
    try:
        return base64.b64decode(data, validate=True)
    except ValueError as error:
        raise ConversationError(
            f"{source}: {uri!r:.80} is no base64 data: write it anew"
        ) from error


def _read_turns(turns: Any, source: str) -> list[Message]:
    """LLaVA's `conversations`."""
    if not isinstance(turns, list) or not turns:
        raise ConversationError(
            f"{source}: `conversations` must be a list of turns, or `messages`: mend the row"
        )
    messages = []
    for position, turn in enumerate(turns):
        if not isinstance(turn, dict) or turn.get("from") not in ROLES:
            raise ConversationError(
                f'{source}: turn {position} must be {{"from": "human" or "gpt", "value": …}}, '
                f"not {str(turn)[:80]}"
            )
        text = _require_text(turn.get("value"), position, source)
        messages.append({"role": ROLES[turn["from"]], "content": text})
    return messages


def _read_messages(told: Any, source: str) -> tuple[list[Message], list[Any]]:
    """transformers' messages without the data of their pictures, and that data, of those that have
    it in place."""
    if not isinstance(told, list) or not told:
        raise ConversationError(f"{source}: `messages` must be a list of messages: mend the row")
    messages, inside = [], []
    for position, message in enumerate(told):
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            raise ConversationError(
                f"{source}: message {position} must have a role, user or assistant, and content, "
                f"not {str(message)[:80]}"
            )
        content = message.get("content")
        if isinstance(content, list):
            content = [_item(item, inside, position, source) for item in content]
            if {"type": "image"} not in content:
                _require_text("".join(item["text"] for item in content), position, source)
        else:
            content = _require_text(content, position, source)
        messages.append({"role": ROLES[message["role"]], "content": content})
    return messages, inside


def _item(item: Any, inside: list[Any], position: int, source: str) -> dict[str, str]:
    kind = item.get("type") if isinstance(item, dict) else None
    if kind == "text" and isinstance(item.get("text"), str) and IMAGE_TOKEN not in item["text"]:
        return {"type": "text", "text": item["text"]}
    if kind not in ("image", "image_url"):
        raise ConversationError(
            f"{source}: message {position} holds {item!r:.80}: an item is an image, or text "
            f"without {IMAGE_TOKEN}"
        )
    data = [item[name] for name in ("image", "url", "path", "image_url") if item.get(name)]
    inside += data[:1]
    return {"type": "image"}


def _require_text(text: Any, position: int, source: str) -> str:
    if not isinstance(text, str) or not text.strip():
        raise ConversationError(f"{source}: turn {position} has no text: fill it or remove the row")
    return text


def _places(message: Message) -> int:
    content = message["content"]
    if isinstance(content, str):
        return content.count(IMAGE_TOKEN)
    return sum(item["type"] == "image" for item in content)


def _require_places(messages: Iterable[Message], pictures: int, source: str) -> None:
    """As many places as pictures, and none in what the model says."""
    found = {"user": 0, "assistant": 0, "system": 0}
    for message in messages:
        found[message["role"]] += _places(message)
    if found["assistant"] or found["system"]:
        raise ConversationError(f"{source}: {IMAGE_TOKEN} stands in what is not asked: remove it")
    if found["user"] != pictures:
        raise ConversationError(
            f"{source}: the row has {pictures} pictures and {found['user']} {IMAGE_TOKEN} in its "
            "questions: add or remove some"
        )


def _picture_first(message: Message) -> Message:
    """The template puts the only picture of a list before its text."""
    content = message["content"]
    if isinstance(content, str) and IMAGE_TOKEN in content:
        text = content.replace(IMAGE_TOKEN, "").strip()
        content = [{"type": "image"}, {"type": "text", "text": text}]
    return {**message, "content": content}


def _in_words(message: Message) -> Message:
    """A list of items as one string, so that of several pictures each stands where it is."""
    content = message["content"]
    if not isinstance(content, str):
        content = "".join(item.get("text", f"{IMAGE_TOKEN}\n") for item in content)
    return {**message, "content": content}


def _answered(messages: list[Message], source: str) -> list[Message]:
    """A system sentence if there is one, then question and answer in turn."""
    start = messages[:1] if messages[0]["role"] == "system" else []
    turns = messages[len(start) :]
    while turns and turns[0]["role"] == "assistant":
        turns = turns[1:]
    if turns and turns[-1]["role"] == "user":
        _require_places(turns[-1:], 0, source)
        turns = turns[:-1]
    expected = ["user", "assistant"] * (len(turns) // 2)
    if not turns or [turn["role"] for turn in turns] != expected:
        raise ConversationError(
            f"{source}: after a system sentence, if any, question and answer must follow in turn"
        )
    return [*start, *turns]
