"""What has been fetched: sources.lock beside the data, and how a data root compares with it."""

from __future__ import annotations

import hashlib
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from scripts.benchmark_sources import AnyPart, Benchmark, FilePart, HandPart, HubPart, LinkPart

LOCK = "sources.lock"


@dataclass(frozen=True, kw_only=True)
class Record:
    """One part as it was fetched.

    source: url, or data set @ commit. archive: sha256 of the zip it came in.
    count, bytes: of the files. files: name in the benchmark's folder -> sha256, but for archives.
    """

    source: str
    count: int
    bytes: int
    archive: str = ""
    files: dict[str, str] = Field(default_factory=dict)


class State(StrEnum):
    OK = "ok"
    MISSING = "missing"
    WRONG = "wrong hash"
    UNKNOWN = "not checkable"
    OPTIONAL = "not asked for"


class Verdict(NamedTuple):
    """`wrong` means that an evaluation would not see the official files."""

    state: State
    detail: str

    @property
    def wrong(self) -> bool:
        return self.state in (State.MISSING, State.WRONG)


RECORDS = TypeAdapter(dict[str, Record])


def key_of(benchmark: Benchmark, part: AnyPart) -> str:
    return f"{benchmark.folder}/{part.path}"


def read_records(root: Path) -> dict[str, Record]:
    """Records of a data root, by folder and path.

    Raises ValueError if sources.lock is not what this script wrote.
    """
    path = root / LOCK
    if not path.exists():
        return {}
    try:
        return RECORDS.validate_json(path.read_bytes())
    except ValidationError as error:
        raise ValueError(
            f"{path}: not readable ({error}); delete it, and what is there is compared anew."
        ) from error


def write_record(root: Path, key: str, record: Record) -> None:
    """Add a record; sources.lock is whole at any moment."""
    records = read_records(root) | {key: record}
    part = root / f"{LOCK}.part"
    part.write_bytes(RECORDS.dump_json(dict(sorted(records.items())), indent=1) + b"\n")
    part.replace(root / LOCK)


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def record_of(folder: Path, files: list[Path], source: str, archive: str = "") -> Record:
    """Of files just fetched. Those of an archive, whose hash is known, are counted only."""
    hashes = {} if archive else {str(p.relative_to(folder)): sha256_of(p) for p in files}
    size = sum(path.stat().st_size for path in files)
    return Record(source=source, count=len(files), bytes=size, archive=archive, files=hashes)


def verify(part: AnyPart, folder: Path, record: Record | None, images: bool) -> Verdict:
    """Compare a part with the known hashes and with its record.

    Args:
        images: whether optional pictures must be there.
    """
    files = part.found(folder)
    if not files and part.images and not images:
        return Verdict(State.OPTIONAL, "pictures, by --images")
    if len(files) < part.count:
        return Verdict(State.MISSING, f"{len(files)} of {part.count}")
    if isinstance(part, LinkPart):
        return Verdict(State.OK, f"{len(files)} files, link to {part.link}")
    if isinstance(part, HandPart):
        return Verdict(State.UNKNOWN, f"{len(files)} files, put here by hand")
    known = dict(record.files) if record else {}
    if isinstance(part, FilePart | HubPart) and part.sha256 is not None:
        known = {str(files[0].relative_to(folder)): part.sha256}
    for path in files:
        name = str(path.relative_to(folder))
        if name in known and sha256_of(path) != known[name]:
            return Verdict(State.WRONG, f"{name} is not {known[name][:12]}..: take it again")
    return _by_record(files, known, record)


def _by_record(files: list[Path], known: dict[str, str], record: Record | None) -> Verdict:
    if record is None and not known:
        return Verdict(State.UNKNOWN, f"{len(files)} files; no hash is known, none recorded")
    if record is not None:
        size = sum(path.stat().st_size for path in files)
        if (len(files), size) != (record.count, record.bytes):
            return Verdict(
                State.WRONG,
                f"{len(files)} files of {size} bytes; fetched were {record.count} of "
                f"{record.bytes}",
            )
    how = "hash" if known else "number and size as unpacked"
    return Verdict(State.OK, f"{len(files)} files, {how}" if len(files) > 1 else how)
