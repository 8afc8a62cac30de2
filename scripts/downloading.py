"""Downloads that go on where they stopped, and archives unpacked with care."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from stat import S_ISLNK
from typing import NamedTuple
from zipfile import BadZipFile, ZipFile, ZipInfo

import huggingface_hub.constants
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import hf_raise_for_status, http_backoff
from tqdm import tqdm

from scripts.benchmark_records import sha256_of
from scripts.benchmark_sources import HubPart, in_words

# Compressed on the way, a file would have another length, and a range of it other bytes.
PLAIN = {"Accept-Encoding": "identity"}
HUB = "https://huggingface.co"


class Remote(NamedTuple):
    """What a server says of a file: a mark of its version, and its length, where it does."""

    version: str
    size: int | None


def ask(url: str) -> Remote:
    """Look a file up without taking it.

    Raises FileNotFoundError if it is not there, OSError for other answers and for none.
    """
    answer = http_backoff("HEAD", url, headers=PLAIN, max_retries=3, timeout=30)
    if answer.status_code in (404, 410):
        raise FileNotFoundError(
            f"{url}: not there (HTTP {answer.status_code}). If the file has moved, correct "
            "scripts/benchmark_sources.yaml."
        )
    # Some servers answer to GET alone; addresses that the hub signs are good for GET alone.
    if answer.status_code in (401, 403, 405, 501):
        return Remote("", None)
    hf_raise_for_status(answer)
    length = answer.headers.get("Content-Length")
    version = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
    return Remote(version, int(length) if length else None)


def download(url: str, target: Path, sha256: str | None, size: int | None) -> str:
    """Take a file, from where an earlier try of the same version stopped; its sha256.

    It has its name only when all of it is there and is what it should be. Until then it is
    <name>.<version>.part beside it; other versions' parts are no beginning of this one.

    Raises:
        FileNotFoundError: it is not at its place.
        ValueError: other bytes than expected; the part is deleted.
        OSError: the server or the disk fails; the part is kept.
    """
    url = url.replace(HUB, huggingface_hub.constants.ENDPOINT, 1)
    remote = ask(url)
    mark = hashlib.sha256(f"{url} {remote}".encode()).hexdigest()[:8]
    part = target.with_name(f"{target.name}.{mark}.part")
    target.parent.mkdir(parents=True, exist_ok=True)
    begun = part.stat().st_size if part.exists() and (remote.version or sha256) else 0
    if remote.size is not None:
        require_space(target.parent, remote.size - begun, url)
    # Where the length is not told, asking for what follows a whole file would be an error.
    if not begun or remote.size is not None or sha256_of(part) != sha256:
        with part.open("ab") as file:
            file.truncate(begun)
            told = {"expected_size": remote.size, "displayed_filename": target.name}
            http_get(url, file, resume_size=begun, headers=PLAIN, **told)
    found = sha256_of(part)
    taken = part.stat().st_size
    if (sha256 is not None and found != sha256) or (size is not None and taken != size):
        part.unlink()
        raise ValueError(
            f"{url}: {taken} bytes of sha256 {found} came, expected are "
            f"{'any number' if size is None else size} of {sha256 or 'any'}. Deleted. If it fails "
            "again, the file was replaced at its source: look at its page."
        )
    part.replace(target)
    for other in target.parent.glob(f"{target.name}.*.part"):
        other.unlink()
    return found


def require_space(folder: Path, size: int, what: str) -> None:
    """Raises OSError if the disk of `folder` has no room for `size` bytes."""
    free = shutil.disk_usage(folder).free
    if free < size:
        raise OSError(
            f"{what}: needs {in_words(size)}, and {folder} has {in_words(free)} free; make room, "
            "and run this again: it goes on where it stopped."
        )


def take_from_hub(part: HubPart, folder: Path, commit: str | None) -> str:
    """Take files of a data set into `folder`; the commit they are of.

    The hub's library keeps what is unfinished in a hidden folder and goes on from there. Files get
    their names when all have come.

    Raises:
        ValueError: fewer files than there should be, or other bytes.
        OSError: the hub does not answer, or does not have them.
    """
    commit = commit or part.revision or HfApi().dataset_info(part.hub).sha
    stage = folder / f".{part.hub.replace('/', '--')}.part"
    snapshot_download(
        part.hub, repo_type="dataset", revision=commit, allow_patterns=part.files, local_dir=stage
    )
    came = [path for path in stage.rglob("*") if path.is_file() and ".cache" not in path.parts]
    wanted = [path for path in came if fnmatch(path.relative_to(stage).as_posix(), part.files)]
    if len(wanted) < part.count:
        raise ValueError(
            f"{part.hub}@{commit}: {len(wanted)} files {part.files}, expected {part.count}; look "
            "at its page, and correct scripts/benchmark_sources.yaml."
        )
    for path in wanted:
        if part.sha256 is not None and (found := sha256_of(path)) != part.sha256:
            shutil.rmtree(stage)
            raise ValueError(f"{part.hub}@{commit}: {path.name} is {found}, not {part.sha256}.")
    for path in wanted:
        target = folder / part.into / path.relative_to(stage / part.strip)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)
    shutil.rmtree(stage)
    return str(commit)


def unpack(archive: Path, folder: Path, members: Sequence[str]) -> None:
    """Unpack what the patterns name. Files get their names when all are out.

    Raises:
        ValueError: a broken archive, or a name in it that leads out of the folder; nothing is
            unpacked.
        OSError: no room.
    """
    stage = folder / ".unpacking"
    shutil.rmtree(stage, ignore_errors=True)  # of a run that was killed
    stage.mkdir(parents=True)
    try:
        with ZipFile(archive) as file:
            for member in file.infolist():
                _require_safe(archive, member)
            wanted = [member for member in file.infolist() if _named(member, members)]
            require_space(folder, sum(member.file_size for member in wanted), archive.name)
            for member in tqdm(wanted, f"unpacking {archive.name}", unit="files"):
                file.extract(member, stage)
        for member in wanted:
            target = folder / member.filename
            target.parent.mkdir(parents=True, exist_ok=True)
            (stage / member.filename).replace(target)
    except BadZipFile as error:
        raise ValueError(f"{archive}: broken ({error}); delete it, and run this again.") from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _named(member: ZipInfo, members: Sequence[str]) -> bool:
    name = member.filename
    # What macOS adds to archives is no data.
    if member.is_dir() or name.startswith("__MACOSX/") or name.endswith(".DS_Store"):
        return False
    return any(fnmatch(name, pattern) for pattern in members)


def _require_safe(archive: Path, member: ZipInfo) -> None:
    steps = re.split(r"[/\\]", member.filename)
    if ".." in steps or steps[0] == "" or ":" in steps[0] or S_ISLNK(member.external_attr >> 16):
        raise ValueError(
            f"{archive}: the member {member.filename!r} leads out of the folder or is a link; "
            "nothing was unpacked. Do not use this archive."
        )
