"""Write any CLIP that open_clip opens as a tower directory, with its vision side for transformers.

    python scripts/export_tower.py ViT-L-14-336-quickgelu:openai out/openai-l14-336
    python scripts/export_tower.py path/to/an/open_clip/directory out/tower
    python scripts/export_tower.py out/tower out/half --start out/rotary --alpha 0.5

Towers of stages 1 and 2 are such directories already; this is for the base they are compared with,
and for averaging a trained tower with the one it started from.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vision_tower.towers import load_tower, save_tower
from vision_tower.weights import averaged_weights


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("tower", help="<architecture>:<tag>, hf-hub:<id> or a directory")
    parser.add_argument("directory", type=Path, help="where the tower directory is written")
    parser.add_argument("--start", help="what the tower started from (WiSE-FT)")
    parser.add_argument("--alpha", type=float, help="the tower's share, 0 to 1, beside --start")
    arguments = parser.parse_args()
    if (arguments.start is None) != (arguments.alpha is None):
        parser.error("--start and --alpha go together.")
    try:
        tower = load_tower(arguments.tower)
        state = tower.state_dict()
        if arguments.start:
            start = load_tower(arguments.start)
            if start.config != tower.config:
                raise ValueError("the two towers have different settings: average with its start.")
            state = averaged_weights(start.state_dict(), state, arguments.alpha)
        save_tower(tower, arguments.directory, state)
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
