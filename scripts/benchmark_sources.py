"""Where the files of each benchmark come from: what benchmark_sources.yaml may say, and reading it.

A benchmark has parts. A part is one file, or many that come together, from one source: a url, a
zip, a data set on the Hugging Face hub, a link to what another benchmark has, or a person's hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, TypeAlias

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

SOURCES = Path(__file__).with_suffix(".yaml")
STRICT = ConfigDict(extra="forbid")
Url: TypeAlias = Annotated[str, Field(pattern=r"^https?://[^/\s]+/\S+$")]
Sha256: TypeAlias = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Commit: TypeAlias = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Part:
    """Files in the benchmark's folder.

    path: of the file, or a glob of the files.
    format: what is inside, as evaluation reads it.
    count: how many files there are at least.
    images: fetched with --images only.
    about: bytes of the download, where they are not known exactly.
    """

    path: str
    format: str
    count: int = Field(default=1, ge=1)
    images: bool = False
    about: int | None = None

    def found(self, folder: Path) -> list[Path]:
        """The files that are there, in order of name."""
        return sorted(path for path in folder.glob(self.path) if path.is_file())


@dataclass(frozen=True, kw_only=True, config=STRICT)
class FilePart(Part):
    """One file, as it lies at `url`. sha256 None: not known, compared with the first download's.
    size: in bytes, exactly."""

    url: Url
    sha256: Sha256 | None
    size: int | None = None


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ZipPart(Part):
    """What `members`, patterns, name in the archive at `zip`, unpacked into the folder `into`.
    sha256, size: of the archive."""

    zip: Url
    sha256: Sha256 | None
    size: int | None = None
    members: list[str] = Field(default_factory=lambda: ["*"])
    into: str = ""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class HubPart(Part):
    """What the pattern `files` names in the data set `hub`, without the folder `strip`, in `into`.
    revision None: the newest at the first download. sha256: of the file, if it is one."""

    hub: str
    revision: Commit | None
    files: str
    sha256: Sha256 | None
    strip: str = ""
    into: str = ""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class LinkPart(Part):
    """The first folder of `path` as a link to `link`, which the benchmark `needs` holds."""

    link: str
    needs: str


@dataclass(frozen=True, kw_only=True, config=STRICT)
class HandPart(Part):
    """What a person must get; `hand` says how."""

    hand: str


AnyPart: TypeAlias = FilePart | ZipPart | HubPart | LinkPart | HandPart


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Benchmark:
    """home: the official place. folder: inside the data root, the name if it is not given."""

    name: str
    what: str
    licence: str
    home: Url
    parts: list[AnyPart] = Field(min_length=1)
    folder: str


def read_sources(path: Path = SOURCES) -> dict[str, Benchmark]:
    """All benchmarks by name.

    Raises ValueError for a file that does not say what it must.
    """
    told = yaml.safe_load(path.read_text(encoding="utf-8"))
    try:
        found = {
            name: TypeAdapter(Benchmark).validate_python({"name": name, "folder": name} | rest)
            for name, rest in told.items()
        }
    except ValidationError as error:
        raise ValueError(f"{path}: {error}") from error
    for benchmark in found.values():
        for part in benchmark.parts:
            if isinstance(part, LinkPart) and part.needs not in found:
                raise ValueError(f"{path}: {benchmark.name} needs {part.needs}, which is not there")
    return found


def source_of(part: AnyPart) -> str:
    """Where a part comes from, for people."""
    match part:
        case FilePart():
            return part.url
        case ZipPart():
            return part.zip
        case HubPart():
            at = f"/tree/{part.revision}" if part.revision else ""
            return f"https://huggingface.co/datasets/{part.hub}{at}"
        case LinkPart():
            return f"link to {part.link}"
        case HandPart():
            return "by hand"


def size_of(parts: Sequence[AnyPart]) -> str:
    """Size of what is downloaded for `parts`, for people: "about" and "more than" are said."""
    loaded = [part for part in parts if isinstance(part, FilePart | ZipPart | HubPart)]
    sizes = [
        part.about if isinstance(part, HubPart) else part.size or part.about for part in loaded
    ]
    total = in_words(sum(size for size in sizes if size is not None))
    if not loaded:
        return ""
    if not any(sizes):
        return "unknown"
    if None in sizes:
        return f"more than {total}"
    return f"about {total}" if any(part.about for part in loaded) else total


def in_words(size: float) -> str:
    """5300 -> 5.3 kB."""
    for unit in ("B", "kB", "MB"):
        if round(size, 3 - len(str(int(size)))) < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"
