"""Write any CLIP that open_clip opens as a tower directory, with its vision side for transformers.

    python scripts/export_tower.py ViT-L-14-336-quickgelu:openai out/openai-l14-336
    python scripts/export_tower.py path/to/an/open_clip/directory out/tower

Towers of stages 1 and 2 are such directories already; this is for the base they are compared with.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vision_tower.towers import load_tower, save_tower


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("tower", help="<architecture>:<tag>, hf-hub:<id> or a directory")
    parser.add_argument("directory", type=Path, help="where the tower directory is written")
    arguments = parser.parse_args()
    try:
        save_tower(load_tower(arguments.tower), arguments.directory)
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
