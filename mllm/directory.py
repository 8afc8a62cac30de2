"""Telling a LLaVA directory from anything else, its weights from others, and whole files from
damaged ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub.utils import HFValidationError, validate_repo_id
from safetensors import SafetensorError, safe_open
from transformers import LlavaConfig
from transformers.utils.peft_utils import ADAPTER_CONFIG_NAME

SUMS = "sha256.json"  # beside the files it is of


def model_type(directory: str | Path) -> str | None:
    """What kind of model a directory (or hub id) holds, in transformers' words.

    Raises ValueError if it holds none.
    """
    folder = Path(directory)
    remedy = "run training/pretrain_projector.py first, or check the name"
    require_findable(str(directory), remedy)
    if (folder / ADAPTER_CONFIG_NAME).is_file():
        raise ValueError(
            f"{folder} holds adapters, no whole LLaVA: run python scripts/merge.py {folder} <a new "
            "directory>, and give that"
        )
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise ValueError(
            f"{folder} has no config.json: give the output directory of training/finetune.py, or "
            "any LLaVA directory"
        )
    try:
        settings, _ = LlavaConfig.get_config_dict(directory)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{directory} is neither a LLaVA directory nor a model that the hub gives: {remedy} "
            f"({error})"
        ) from error
    return settings.get("model_type")


def require_llava(directory: str | Path) -> None:
    """Raise ValueError unless `directory` (or hub id) holds a LLaVA model.

    transformers would only warn, and make a 7 B LLaVA of random weights.
    """
    found = model_type(directory)
    if found != LlavaConfig.model_type:
        raise ValueError(
            f"{directory} holds a {found!r} model, not LLaVA: give the output "
            "directory of training/finetune.py, or assemble one with training/pretrain_projector.py"
        )


def require_findable(name: str, remedy: str) -> None:
    """Raise ValueError, with a remedy, if `name` is no directory and can be no hub id either.

    The hub's own error would be of how its ids are written.
    """
    if Path(name).is_dir():
        return
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise ValueError(f"there is no directory {name}: {remedy}") from error


@contextmanager
def readable_weights(directory: str | Path) -> Iterator[None]:
    """Where weights of `directory` are read: for one that cannot be, raises ValueError with the
    file and a remedy, where safetensors would not even say which."""
    try:
        yield
    except SafetensorError as error:
        files = sorted(Path(directory).glob("*.safetensors"))
        file = next((file for file in files if not _opens(file)), directory)
        raise ValueError(
            f"{file} cannot be read ({error}): cut short or damaged. Train again, or copy it again "
            "from where it is whole."
        ) from error


def _opens(file: Path) -> bool:
    try:
        with safe_open(file, "pt"):
            return True
    except SafetensorError:
        return False


def weight_hashes(directory: str | Path) -> dict[str, str]:
    """sha256 of each file of weights in a directory, by name; none of a hub id's."""
    return _hashes(sorted(Path(directory).glob("*.safetensors")), Path(directory))


def sums(directory: Path) -> dict[str, str]:
    """sha256 of all files below `directory` but the sums themselves, by their paths in it."""
    files = (path for path in directory.rglob("*") if path.is_file() and path.name != SUMS)
    return _hashes(sorted(files), directory)


def written_sums(directory: Path) -> dict[str, str]:
    """The sums beside the files; of none that can be read, one that is wrong of the sums."""
    try:
        return json.loads((directory / SUMS).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {SUMS: ""}


def _hashes(files: list[Path], directory: Path) -> dict[str, str]:
    with ThreadPoolExecutor() as threads:  # hashing leaves Python's lock
        found = list(threads.map(sha256, files))
    return dict(zip((str(file.relative_to(directory)) for file in files), found, strict=True))


def sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
