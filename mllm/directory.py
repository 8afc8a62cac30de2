"""Telling a LLaVA directory from anything else."""

from __future__ import annotations

from pathlib import Path

from transformers import LlavaConfig


def require_llava(directory: str | Path) -> None:
    """Raise ValueError unless `directory` (or hub id) holds a LLaVA model.

    transformers would only warn, and make a 7 B LLaVA of random weights.
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
    if settings.get("model_type") != LlavaConfig.model_type:
        raise ValueError(
            f"{directory} holds a {settings.get('model_type')!r} model, not LLaVA: give the output "
            "directory of training/finetune.py, or assemble one with training/pretrain_projector.py"
        )
