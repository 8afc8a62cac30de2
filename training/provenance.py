"""How a result was made: the resolved recipe, the commit and the versions of the packages."""

from __future__ import annotations

import json
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from transformers import TrainingArguments

RECORD = "recipe.json"
PACKAGES = ("torch", "transformers", "open_clip_torch", "accelerate", "deepspeed", "peft", "fovea")
# Where and how a run was started or watched. What is left decides the weights.
DECIDES_NOTHING = {
    "output_dir", "local_rank", "use_cpu", "disable_tqdm", "log_level", "log_level_replica",
    "log_on_each_node", "report_to", "run_name", "logging_steps", "logging_strategy",
    "logging_first_step", "save_steps", "save_strategy", "save_total_limit",
    "dataloader_num_workers", "dataloader_pin_memory", "dataloader_persistent_workers",
    "dataloader_prefetch_factor", "resume_from_checkpoint", "quarantine_budget", "dry_run",
    "retention", "eval_steps",
}  # fmt: skip


def resolved_recipe(args: TrainingArguments) -> dict[str, object]:
    """Every setting, as json values; tokens for hubs and trackers come masked."""
    return json.loads(json.dumps(args.to_dict(), default=str))


def differences(made_by: dict[str, object], wanted: dict[str, object]) -> list[str]:
    """Names of the settings that decide a result and are not the same in two recipes."""
    return [
        name
        for name, value in wanted.items()
        if name not in DECIDES_NOTHING and made_by.get(name) != value
    ]


def require_same_recipe(args: TrainingArguments, record: Path, what: str) -> None:
    """Raise ValueError if `record`, of `what` is in `args.output_dir`, tells of another recipe."""
    made_by = json.loads(record.read_text(encoding="utf-8"))["recipe"]
    wanted = resolved_recipe(args)
    changed = differences(made_by, wanted)
    if changed:
        told = ", ".join(f"{n}: {made_by.get(n)!r} then, {wanted[n]!r} now" for n in changed[:5])
        raise ValueError(
            f"{args.output_dir} holds {what} made by another recipe ({told}). "
            "Choose another --output_dir, or delete this one to train again."
        )


def provenance() -> dict[str, object]:
    """`{"commit": hash, "-dirty" appended if files were changed, or None; "versions": {...}}`."""
    return {"commit": _commit(), "versions": _versions()}


def _commit() -> str | None:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--match="]
    try:
        told = subprocess.run(  # the repository this file lies in, wherever the run was started
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None  # an installed package has no repository
    return told.stdout.strip()


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
