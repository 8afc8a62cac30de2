"""Fetching the parts of benchmarks into a data root: what is missing, and nothing else."""

from __future__ import annotations

import errno
from pathlib import Path, PurePosixPath

import httpx2

from scripts.benchmark_records import (
    Record,
    State,
    key_of,
    read_records,
    record_of,
    sha256_of,
    verify,
    write_record,
)
from scripts.benchmark_sources import (
    AnyPart,
    Benchmark,
    FilePart,
    HandPart,
    HubPart,
    LinkPart,
    ZipPart,
    source_of,
)
from scripts.downloading import download, take_from_hub, unpack


class Fetcher:
    """Fetches into one data root. images: optional pictures too."""

    def __init__(self, root: Path, sources: dict[str, Benchmark], images: bool) -> None:
        self.root, self.sources, self.images = root, sources, images

    def fetch(self, name: str) -> list[str]:
        """Fetch all parts of a benchmark; what failed, in words. No part's failure stops others."""
        failures = []
        for part in self.sources[name].parts:
            if part.images and not self.images:
                continue
            try:
                self._fetch(self.sources[name], part)
            except (OSError, ValueError, httpx2.HTTPError) as error:
                full = isinstance(error, OSError) and error.errno == errno.ENOSPC
                hint = "; make room, and run this again: it goes on where it stopped" * full
                failures.append(f"{name}, {part.path}: {error}{hint}")
        return failures

    def _fetch(self, benchmark: Benchmark, part: AnyPart) -> None:
        folder, key = self.root / benchmark.folder, key_of(benchmark, part)
        record = read_records(self.root).get(key)
        verdict = verify(part, folder, record, images=True)
        if not verdict.wrong:
            print(f"{key}: here already")
            if record is None and isinstance(part, FilePart | HubPart):
                found = record_of(folder, part.found(folder), "found here")
                write_record(self.root, key, found)
            return
        if verdict.state is State.WRONG and record is None:
            raise ValueError(f"{verdict.detail}. It was not fetched by this script: move it away.")
        print(f"{key}: from {source_of(part)}")
        match part:
            case HandPart():
                raise ValueError(f"cannot be fetched by a program. {part.hand} Here: {folder}.")
            case LinkPart():
                self._link(part, folder)
            case ZipPart():
                self._unpack(part, folder, key, record)
            case FilePart():
                known = part.sha256 or (record.files[part.path] if record else None)
                download(part.url, folder / part.path, known, part.size)
                self._record(part, folder, key, part.url)
            case HubPart():
                # What is taken again is taken of the same commit.
                known = record.source.partition("@")[2] if record else None
                commit = take_from_hub(part, folder, known)
                self._record(part, folder, key, f"{part.hub}@{commit}")

    def _record(
        self, part: AnyPart, folder: Path, key: str, source: str, archive: str = ""
    ) -> None:
        files = part.found(folder)
        if len(files) < part.count:
            raise ValueError(
                f"{source} gave {len(files)} files, expected are {part.count}; look at its page, "
                "and correct scripts/benchmark_sources.yaml."
            )
        write_record(self.root, key, record_of(folder, files, source, archive))

    def _unpack(self, part: ZipPart, folder: Path, key: str, record: Record | None) -> None:
        archive = folder / PurePosixPath(part.zip).name
        known = part.sha256 or (record.archive if record else None)
        if not archive.exists():
            sha256 = download(part.zip, archive, known, part.size)
        elif known not in (None, sha256 := sha256_of(archive)):
            raise ValueError(f"{archive}: sha256 {sha256}, expected {known}; move it away.")
        unpack(archive, folder / part.into, part.members)
        self._record(part, folder, key, part.zip, sha256)
        archive.unlink()

    def _link(self, part: LinkPart, folder: Path) -> None:
        failures = self.fetch(part.needs)
        if failures:
            raise ValueError("; ".join(failures))
        link = folder / PurePosixPath(part.path).parts[0]
        if link.exists() and not link.is_symlink():
            raise ValueError(
                f"{link} is there with {len(part.found(folder))} of {part.count} files; move it "
                f"away, and it becomes a link to {part.link}."
            )
        if not link.is_symlink():
            folder.mkdir(parents=True, exist_ok=True)
            link.symlink_to(part.link, target_is_directory=True)
