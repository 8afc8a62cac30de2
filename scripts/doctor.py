"""What is installed here, what each part is for, and how to mend what is missing.

    python scripts/doctor.py

Ends with status 1 if something is missing or broken that training or evaluation needs.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

GIB = 2**30


class Finding(NamedTuple):
    """`mend` is what to do, empty where all is well. One that is `needed` decides the status."""

    what: str
    found: str
    gives: str
    mend: str = ""
    needed: bool = False


class Package(NamedTuple):
    name: str  # of the distribution
    module: str
    gives: str
    mend: str
    needed: bool = False


INSTALL = "bash scripts/environment.sh"
PACKAGES = (
    Package("transformers", "transformers", "models, Trainer", INSTALL, needed=True),
    Package("accelerate", "accelerate", "devices and processes", INSTALL, needed=True),
    Package("open_clip_torch", "open_clip", "towers", INSTALL, needed=True),
    Package("torchvision", "torchvision", "preprocessing of pictures",
            "install the one of torch's version; a CUDA build beside a CPU torch is mended "
            "by python scripts/repair_torchvision.py", needed=True),
    Package("datasets", "datasets", "captions, edit pairs, conversations", INSTALL, needed=True),
    Package("sentencepiece", "sentencepiece", "tokenizers of Llama's kind", INSTALL, needed=True),
    Package("nltk", "nltk", "words of descriptions", INSTALL, needed=True),
    Package("textblob", "textblob", "their singulars, and nouns", INSTALL, needed=True),
    Package("openpyxl", "openpyxl", "answers in VLMEvalKit's tables", INSTALL, needed=True),
    Package("peft", "peft", "LoRA, DoRA, QLoRA", INSTALL, needed=True),
    Package("deepspeed", "deepspeed", "ZeRO: several GPUs", "pip install deepspeed"),
    Package("bitsandbytes", "bitsandbytes", "QLoRA's 4 bits, AdamW in 8 bits",
            "pip install bitsandbytes"),
    Package("flash_attn", "flash_attn", "faster attention on GPUs; without it PyTorch's own "
            "kernels serve", "pip install flash-attn --no-build-isolation"),
    Package("triton", "triton", "--torch_compile on GPUs, flex_attention",
            "comes with torch's CUDA builds"),
    Package("gradio", "gradio", "the chat demo", "pip install gradio"),
    Package("tensorboard", "tensorboard", "curves of a run, by default",
            "pip install tensorboard, or --report_to none"),
    Package("spacy", "spacy", "word vectors of amber_official",
            "pip install spacy && python -m spacy download en_core_web_lg"),
    Package("gguf", "gguf", "llama.cpp's files (scripts/export_mmproj.py)", "pip install gguf"),
    Package("wandb", "wandb", "curves by --report_to wandb", "pip install wandb"),
)  # fmt: skip


def main() -> None:
    warnings.simplefilter("ignore")
    found = [one for look in LOOKS for one in look()]
    table = Table()
    for column in ("part", "found", "what it gives", "what to do"):
        table.add_column(column, overflow="fold")
    for one in found:
        colour = "red" if one.mend and one.needed else "yellow" if one.mend else "green"
        table.add_row(one.what, Text(one.found, style=colour), one.gives, escape(one.mend))
    Console().print(table)
    broken = [one.what for one in found if one.mend and one.needed]
    if broken:
        sys.exit(f"needed, and missing or broken: {', '.join(broken)}.")
    print("All that is needed is here.")


def machine() -> Iterator[Finding]:
    version = platform.python_version()
    old = sys.version_info < (3, 11)
    yield Finding("python", version, "", "use 3.11 or later" if old else "", needed=True)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    yield Finding("processor", f"{os.cpu_count()} cores, {memory:.0f} GiB", "")
    free = shutil.disk_usage(Path.cwd()).free / GIB
    mend = "" if free > 50 else "checkpoints of a 7 B model take 14 GiB, with optimizer 90 GiB"
    yield Finding("disk, here", f"{free:.0f} GiB free", "", mend)


def accelerators() -> Iterator[Finding]:
    try:
        import torch
    except ImportError as error:
        yield Finding("torch", f"broken: {error}"[:80], "everything", INSTALL, needed=True)
        return
    built = "CPU" if torch.version.cuda is None else f"CUDA {torch.version.cuda}"
    yield Finding("torch", f"{torch.__version__}, {built}", "everything")
    count = torch.accelerator.device_count()
    if not count:
        mend = "nothing, if there is none; else a driver, and torch's CUDA build"
        yield Finding("GPU", "none", "training at real size", mend)
    for number in range(count if torch.cuda.is_available() else 0):
        told = torch.cuda.get_device_properties(number)
        bf16 = "" if told.major >= 8 else "no bf16: say --bf16 False --fp16 True"
        yield Finding(f"GPU {number}", f"{told.name}, {told.total_memory / GIB:.0f} GiB", "", bf16)


def packages() -> Iterator[Finding]:
    for one in PACKAGES:
        found, mend = "missing", one.mend
        try:
            importlib.import_module(one.module)
            found, mend = importlib.metadata.version(one.name), ""
        except ModuleNotFoundError as error:
            if error.name != one.module:
                found = f"broken: {error}"
        except Exception as error:
            found = f"broken: {type(error).__name__}: {error}"[:80]
        yield Finding(one.name, found, one.gives, mend, one.needed)


def words() -> Iterator[Finding]:
    """NLTK's models are no packages; only two rules need them."""
    import nltk

    places = ("tokenizers/punkt_tab", "taggers/averaged_perceptron_tagger_eng", "corpora/wordnet")
    missing = [place.partition("/")[2] for place in places if not _has(nltk.data.find, place)]
    found = f"missing: {', '.join(missing)}" if missing else "there"
    mend = f"python -m nltk.downloader {' '.join(missing)}" if missing else ""
    yield Finding("NLTK's models", found, "chair_opera, amber_official", mend)


def _has(find: Callable[[str], object], place: str) -> bool:
    try:
        find(place)
    except LookupError:
        try:
            find(f"{place}.zip")
        except LookupError:
            return False
    return True


def compilers() -> Iterator[Finding]:
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    gives = "DeepSpeed's own kernels, --torch_compile on CPUs"
    yield Finding(
        "C++ compiler", compiler or "missing", gives, "" if compiler else "apt install g++"
    )
    folder = Path(os.environ.get("TORCH_EXTENSIONS_DIR", Path.home() / ".cache/torch_extensions"))
    locks = list(folder.rglob("lock"))
    if locks:
        mend = "delete it if nothing is being compiled: runs wait for it for ever"
        yield Finding("compiler lock", str(locks[0]), "", mend)


def caches() -> Iterator[Finding]:
    offline = os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0")
    state = "offline" if offline else "online"
    yield Finding(
        "hub", f"{state}, {os.environ.get('HF_HOME', '~/.cache/huggingface')}", "models by id"
    )


LOOKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    *(machine, accelerators, packages, words, compilers, caches),
)

if __name__ == "__main__":
    main()
