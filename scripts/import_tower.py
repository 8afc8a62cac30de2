"""Write a released checkpoint of CLIP-IN, TULIP or Long-CLIP as a tower directory.

    python scripts/import_tower.py clip-in.pt out/tower --architecture ViT-L-14-336-quickgelu
    python scripts/import_tower.py tulip.pt out/tower --architecture ViT-L-14-quickgelu --rotary
    python scripts/import_tower.py longclip-L.pt out/tower --architecture ViT-L-14-quickgelu

Which of the three it is, its weights' names tell; only TULIP's are those of any CLIP. Activations
they do not tell: images have the architecture's, the rotary texts of CLIP-IN and TULIP have GELU.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vision_tower.released import released_tower
from vision_tower.towers import save_tower


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path, help="torch or safetensors file, as released")
    parser.add_argument("directory", type=Path, help="where the tower directory is written")
    parser.add_argument("--architecture", required=True, help="what open_clip calls its base")
    parser.add_argument(
        "--rotary", action="store_true", help="TULIP's: its table of learned positions is not read"
    )
    arguments = parser.parse_args()
    try:
        tower = released_tower(arguments.checkpoint, arguments.architecture, arguments.rotary)
        save_tower(tower, arguments.directory)
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))
    images = "QuickGELU" if tower.config["model_cfg"].get("quick_gelu") else "GELU"
    texts = "rotary positions, GELU" if "rotary_text" in tower.config else "learned positions"
    print(
        f"{arguments.directory}: images with {images}; texts of {tower.context_length} tokens with "
        f"{texts}."
    )


if __name__ == "__main__":
    main()
