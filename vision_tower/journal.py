"""Json-lines that grow row by row, and go on where a killed run left them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def resume(path: Path, made_by: dict[str, object]) -> list[dict[str, Any]]:
    """The rows that are there already; prepares the file for appending.

    The line that a killed run left half written is cut off. Beside the file stands
    `<name>.by.json` with what the rows came from.

    Args:
        path: the file; it and its folder need not exist.
        made_by: everything that the rows depend on, as json has it.

    Raises:
        ValueError: the rows were made by something else, or a line is broken.
    """
    origin = origin_of(path)
    if not path.is_file() or path.stat().st_size == 0:
        path.parent.mkdir(parents=True, exist_ok=True)
        origin.write_text(json.dumps(made_by, indent=1) + "\n", encoding="utf-8")
        return []
    before = json.loads(origin.read_text(encoding="utf-8")) if origin.is_file() else {}
    changed = [key for key, value in made_by.items() if before.get(key) != value]
    if changed:
        raise ValueError(
            f"{path}: its rows were made with another {', '.join(changed)}; "
            "remove the file to start again, or choose another --output."
        )
    raw = path.read_bytes()
    whole = raw[: raw.rfind(b"\n") + 1]
    if len(whole) < len(raw):
        path.write_bytes(whole)
    # Not splitlines(): a text may hold U+2028 and its kin, which json leaves as they are.
    lines = whole.decode("utf-8").split("\n")[:-1]
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{path} line {number} is no json ({error}): remove the line, it is made again."
            ) from error
    return rows


def origin_of(path: Path) -> Path:
    """Where it stands what the rows of a file came from."""
    return path.with_suffix(".by.json")
