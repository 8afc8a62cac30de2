"""Decode pictures, with errors that name the row and the remedy."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

from PIL import Image, ImageOps


def decode(source: Path | bytes, where: str) -> Image.Image:
    """An RGB picture, upright, from a file or from encoded bytes. `where` names file and row.

    Raises ValueError for a picture that is missing, truncated, too large or no picture.
    """
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as picture:
            return ImageOps.exif_transpose(picture).convert("RGB")
    # PIL's errors, a missing file's among them; broken chunks of a png are its SyntaxError.
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"{where}: the picture cannot be decoded ({error}). Fetch it again, or remove the row."
        ) from error


def inside(root: Path, path: str, where: str) -> Path:
    """The file of a path that is relative to `root`. Raises ValueError if it leads out of it."""
    if ".." in Path(path).parts:
        raise ValueError(f"{where}: the path {path} leads out of {root}. Mend the row.")
    return root / path


def require_files(files: Iterable[tuple[Path, str]], remedy: str) -> None:
    """Raise FileNotFoundError naming the first of the (path, where) whose file is not there, and
    how many more are missing."""
    missing = [(path, where) for path, where in files if not path.is_file()]
    if missing:
        path, where = missing[0]
        raise FileNotFoundError(
            f"{where}: there is no picture {path} ({len(missing)} missing in all). {remedy}"
        )
