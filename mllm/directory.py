"""Telling a LLaVA directory from anything else, and its weights from others."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from transformers import LlavaConfig


def model_type(directory: str | Path) -> str | None:
    """What kind of model a directory (or hub id) holds, in transformers' words.

    Raises ValueError if it holds none.
    """
    folder = Path(directory)
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise ValueError(
            f"{folder} has no config.json: give the output directory of training/finetune.py, or "
            "any LLaVA directory"
        )
    try:
        settings, _ = LlavaConfig.get_config_dict(directory)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{directory} is neither a LLaVA directory nor a model that the hub gives: run "
            f"training/pretrain_projector.py first, or check the name ({error})"
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


def weight_hashes(directory: str | Path) -> dict[str, str]:
    """sha256 of each file of weights in a directory, by name; none of a hub id's."""
    files = sorted(Path(directory).glob("*.safetensors"))
    with ThreadPoolExecutor() as threads:  # hashing leaves Python's lock
        return dict(zip((file.name for file in files), threads.map(sha256, files), strict=True))


def sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
