"""How a result was got: hashes of what was read and of the model, versions, commit."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path

from eval.bars import bar
from eval.benchmark import Question

PACKAGES = ("torch", "transformers", "open_clip_torch", "nltk", "textblob", "numpy", "pillow")
WEIGHTS_AND_CONFIG = {".safetensors", ".json", ".jinja", ".model", ".txt", ".bin"}
# Written by the Trainer beside the weights; they say nothing about what the model answers.
TRAINING_RECORDS = {
    *("trainer_state.json", "training_args.bin", "recipe.json", "all_results.json"),
    "sha256.json",
}


def file_hash(path: Path) -> str:
    """sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_hash(root: Path, paths: Iterable[Path]) -> str:
    """sha256 over names (relative to the root) and contents, in order of name."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(f"{path.relative_to(root).as_posix()}\0{file_hash(path)}\n".encode())
    return digest.hexdigest()


def model_hash(directory: Path) -> str:
    """Hash of a model or tower directory: weights, configs, tokenizer, template; no checkpoints."""
    paths = [
        path
        for folder in (directory, directory / "vision")
        if folder.is_dir()
        for path in folder.iterdir()
        if path.is_file()
        and path.suffix in WEIGHTS_AND_CONFIG
        and path.name not in TRAINING_RECORDS
    ]
    return files_hash(directory, paths)


def model_identity(name: str) -> dict[str, str | None]:
    """Name as given, and the hash of its files where it is a directory here."""
    directory = Path(name)
    return {"name": name, "sha256": model_hash(directory) if directory.is_dir() else None}


def sameness(identity: Mapping[str, str | None]) -> dict[str, str | None]:
    """What two identities of one model share, however each was named and wherever it ran."""
    key = "sha256" if identity.get("sha256") is not None else "name"
    return {name: identity[name] for name in (key, "dtype") if name in identity}


def tower_hash(directory: Path) -> str | None:
    """sha256 over the vision tower's tensors inside a LLaVA directory, in order of name.

    None where the weights are not here, or hold no tower (adapters of a model elsewhere).
    """
    # Loads torch; scoring a file of answers does without.
    import torch
    from safetensors import safe_open

    digest = hashlib.sha256()
    places: dict[str, Path] = {}
    for path in directory.glob("*.safetensors"):
        with safe_open(path, "pt") as weights:
            places |= {name: path for name in weights.keys() if "vision_tower." in name}  # noqa: SIM118
    for name, path in sorted(places.items()):
        with safe_open(path, "pt") as weights:
            tensor = weights.get_tensor(name)
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy())
    return digest.hexdigest() if places else None


def path_hash(path: Path) -> str:
    """Hash of a file, or of a folder's files."""
    if path.is_file():
        return file_hash(path)
    return files_hash(path, (file for file in path.rglob("*") if file.is_file()))


def data_hashes(root: Path, files: Iterable[Path]) -> dict[str, str]:
    """Hash of each data file, by its name relative to the benchmark's folder."""
    return {path.relative_to(root).as_posix(): file_hash(path) for path in files}


def pictures_hash(root: Path, pictures: Iterable[str]) -> str:
    """One hash over all pictures of a run; with a bar, COCO-sized sets take a while."""
    digest = hashlib.sha256()
    for name in bar(sorted(set(pictures)), "hashing pictures"):
        digest.update(f"{name}\0{file_hash(root / name)}\n".encode())
    return digest.hexdigest()


def prompts_hash(questions: Iterable[Question]) -> str:
    """One hash over what is asked, by question id: benchmarks have several suffixes."""
    lines = sorted(f"{question.id}\0{question.prompt}\n" for question in questions)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that can change an answer."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def git_commit() -> str | None:
    """Commit of this checkout, with "-dirty" for local changes; None outside a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    folder = Path(__file__).parent
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
