"""Decode pictures, with errors that name the row and the remedy."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

from PIL import Image


def decode(source: Path | bytes, where: str) -> Image.Image:
    """An RGB picture from a file or from encoded bytes. `where` names file and row for the error.

    Raises ValueError for a picture that is missing, truncated or no picture.
    """
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as picture:
            return picture.convert("RGB")
    except OSError as error:  # PIL's errors and a missing file alike
        raise ValueError(
            f"{where}: the picture cannot be decoded ({error}). Fetch it again, or remove the row."
        ) from error


def require_files(files: Iterable[tuple[Path, str]], remedy: str) -> None:
    """Raise FileNotFoundError naming the first of the (path, where) whose file is not there, and
    how many more are missing."""
    missing = [(path, where) for path, where in files if not path.is_file()]
    if missing:
        path, where = missing[0]
        raise FileNotFoundError(
            f"{where}: there is no picture {path} ({len(missing)} missing in all). {remedy}"
        )
