"""Build the miniature's base models: a small CLIP blind to detail, and a small Llama.

    python scripts/miniature/build_models.py scripts/miniature/models

Weights are kept in half precision (the CLIP's vision/ in single). On one core either takes
about three quarters of an hour.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from scripts.miniature.base_clip import build_clip
from scripts.miniature.base_llama import build_llm

BUILDERS = {"clip": build_clip, "llm": build_llm}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("directory", type=Path, help="its clip/ and llm/ are written")
    parser.add_argument("--only", choices=BUILDERS, help="build this one alone")
    arguments = parser.parse_args()
    for name in [arguments.only] if arguments.only else BUILDERS:
        (arguments.directory / name).mkdir(parents=True, exist_ok=True)
        BUILDERS[name](arguments.directory / name)


if __name__ == "__main__":
    main()
