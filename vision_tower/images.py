"""Decode pictures, with errors that name the row and the remedy."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterable
from pathlib import Path

from PIL import Image, ImageOps

# A picture that is decoded smaller keeps at least this many times the side it is resized to, as
# PIL's thumbnails do. Of 255 steps of brightness the resized one is off by one at most on average.
REDUCING_GAP = 2


def decode(source: Path | bytes, where: str, side: int = 0) -> Image.Image:
    """An RGB picture, upright, from a file or from encoded bytes. `where` names file and row.

    If it will be resized to `side` pixels, a JPEG of several times that is decoded at a half, a
    quarter or an eighth of its size, most in less than half the time.
    Raises ValueError for a picture that is missing, truncated, too large or no picture.
    """
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as picture:
            if side:
                picture.draft(None, (REDUCING_GAP * side, REDUCING_GAP * side))
            return ImageOps.exif_transpose(picture).convert("RGB")
    # PIL's errors, a missing file's among them; broken chunks of a png are its SyntaxError, broken
    # EXIF data a struct.error or a TypeError.
    except (
        *(OSError, SyntaxError, TypeError, ValueError, struct.error),
        Image.DecompressionBombError,
    ) as error:
        raise ValueError(
            f"{where}: the picture cannot be decoded ({error}). Fetch it again, or remove the row."
        ) from error


# A picture as a row holds it: encoded, a path, or `datasets`' struct of both.
Stored = bytes | str | dict | Path | None


def located(stored: Stored, root: Path, where: str) -> Path | bytes:
    """The file or the bytes of a picture. A path is relative to `root`, but for one in a struct,
    which `datasets` takes as it is. Raises ValueError if there is none, or it leads out of root."""
    if isinstance(stored, dict):
        stored = stored["bytes"] or Path(stored["path"] or "")
    if isinstance(stored, str):
        return _inside(root, stored, where) if stored else located(None, root, where)
    if not stored or stored == Path():
        raise ValueError(f"{where}: there is no picture. Remove the row.")
    if not isinstance(stored, (bytes, Path)):
        raise ValueError(f"{where}: {stored!r} is no picture. Mend the row.")
    return stored


def _inside(root: Path, path: str, where: str) -> Path:
    # By the words of the path: what lies in the root may be a link to elsewhere.
    base = os.path.normpath(root.absolute())
    if not Path(os.path.normpath(Path(base) / path)).is_relative_to(base):
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
