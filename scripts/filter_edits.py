"""Keep the edit pairs whose pictures changed as their captions did, and that no test set knows.

    python scripts/filter_edits.py out/kept --edits 'data/ultraedit/*.parquet'
    python scripts/filter_edits.py out/kept --edits 'data/magicbrush/*.parquet' \\
        --captions 'out/captions/*.jsonl' --tower ViT-L-14-quickgelu:openai \\
        --held_out data/sharegpt4v/heldout.json --image_root data/sharegpt4v

Writes <output>/scores-<shard>-of-<shards>.jsonl, a row a pair, by UltraEdit's names:
  clip_sim_source, clip_sim_target  cosine of a picture and its caption
  clip_sim_dir    cosine of the picture's change and the caption's change
  clip_sim_image  cosine of the two pictures
  ssim            structural similarity of the two pictures
  held_out_sim    the largest cosine of either picture with any of --held_out; 1 where a picture's
                  file has the name of one of those
and <output>/kept-<shard>-of-<shards>.parquet: the pairs that pass, in UltraEdit's columns, pictures
as they were stored. Stage 2 takes it by --edits. Scores are computed once; with other thresholds
the same command writes the parquet anew. Without --tower they are read from the data set's columns,
as UltraEdit has them.

The defaults are those of the script that made UltraEdit's free-form pairs (pictures 0.75, direction
0.22, captions 0.2); InstructPix2Pix's paper has 0.75, 0.2, 0.2. They are for figures of OpenAI's
ViT-L/14: choose others for another tower. Neither filters by SSIM, and there is no published
threshold of leakage: 0.95 is a guess, so look at the pairs next to it.
"""

from __future__ import annotations

import argparse
import logging
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from scripts.edit_scores import HeldOut, computed, published
from scripts.edit_shard import Row, Shard, add_arguments
from vision_tower.captions import Captions
from vision_tower.edits import Edits
from vision_tower.images import Stored, located
from vision_tower.towers import load_tower

logger = logging.getLogger("filter_edits")

PICTURE = pa.struct({"bytes": pa.binary(), "path": pa.string()})
SCHEMA = pa.schema(
    {
        **{"source_image": PICTURE, "edited_image": PICTURE, "edit_prompt": pa.string()},
        **{"source_caption": pa.string(), "target_caption": pa.string(), "edit_type": pa.string()},
    }
)
UNREADABLE = "unreadable"
ROW_GROUP = 100  # what is in memory at a time


def failed(scores: Row, thresholds: argparse.Namespace) -> list[str]:
    """The thresholds that a pair does not hold; one that is not a number holds none. A pair that
    could not be read is UNREADABLE."""
    if "problem" in scores:
        return [UNREADABLE]
    held = {
        "min_caption": min(scores["clip_sim_source"], scores["clip_sim_target"])
        >= thresholds.min_caption,
        "min_direction": scores["clip_sim_dir"] >= thresholds.min_direction,
        "min_image": scores["clip_sim_image"] >= thresholds.min_image,
        "max_ssim": scores["ssim"] <= thresholds.max_ssim,
        "max_held_out": scores.get("held_out_sim", -1) <= thresholds.max_held_out,
    }
    return [name for name, holds in held.items() if not holds]


def score(shard: Shard, arguments: argparse.Namespace) -> dict[str, Row]:
    """The scores of the shard's pairs, by id."""

    def work(pending: Sequence[int]) -> Iterator[list[Row]]:
        if not arguments.tower:
            return published(shard, pending)
        tower = load_tower(arguments.tower).eval()
        tower.to("cuda" if torch.cuda.is_available() else "cpu")
        held_out = None
        if arguments.held_out:
            captions = Captions(arguments.held_out, arguments.image_root)
            captions.check()
            held_out = HeldOut(captions, tower, shard.batch_size)
        return computed(shard, pending, tower, held_out, arguments.workers)

    made_by: dict[str, object] = {
        name: vars(arguments)[name] for name in ("tower", "captions", "held_out", "image_root")
    }
    return shard.grow(arguments.output / f"scores-{shard.name}.jsonl", made_by, work)


def write_kept(edits: Edits, rows: Sequence[int], path: Path) -> None:
    """The pairs `rows` as UltraEdit's parquet, which is there once it is whole."""
    partial = path.with_suffix(".partial")
    with pq.ParquetWriter(partial, SCHEMA) as writer:
        for start in range(0, len(rows), ROW_GROUP):
            group = [_as_ultraedit(edits, row) for row in rows[start : start + ROW_GROUP]]
            writer.write_table(pa.Table.from_pylist(group, SCHEMA))
    partial.replace(path)


def _as_ultraedit(edits: Edits, row: int) -> dict[str, object]:
    where, folder, pair = edits.stored(row)

    def picture(stored: Stored, column: str) -> dict[str, object]:
        found = located(stored, folder, f"{where}, {column}")
        return {"bytes": found if isinstance(found, bytes) else found.read_bytes(), "path": None}

    return {
        "source_image": picture(pair.source_image, "source_image"),
        "edited_image": picture(pair.edited_image, "edited_image"),
        "edit_prompt": pair.instruction,
        "source_caption": pair.source_caption,
        "target_caption": pair.edited_caption,
        "edit_type": pair.kind,
    }


def filter_shard(shard: Shard, arguments: argparse.Namespace) -> None:
    """Score the shard's pairs, say how many fail which threshold, and write the others."""
    scores = score(shard, arguments)
    verdicts = {row: failed(scores[shard.ids[row]], arguments) for row in shard.rows}
    kept = [row for row, reasons in verdicts.items() if not reasons]
    logger.info("%d of %d pairs are kept.", len(kept), len(verdicts))
    for name, number in Counter(r for reasons in verdicts.values() for r in reasons).items():
        if name == UNREADABLE:
            logger.info("%d cannot be read; the scores say why.", number)
        else:
            logger.info("%d fail --%s %s", number, name, vars(arguments)[name])
    path = arguments.output / f"kept-{shard.name}.parquet"
    path.unlink(missing_ok=True)  # what other thresholds kept must not pass for this
    if not kept:
        raise ValueError(f"no pair of {shard.name} is kept: choose other thresholds.")
    write_kept(shard.edits, kept, path)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add_arguments(parser, batch_size=64)
    parser.add_argument("--captions", nargs="+", default=[], help="of pairs that have none")
    parser.add_argument("--tower", help="directory or open_clip name; else the set's own figures")
    parser.add_argument("--held_out", nargs="+", default=[], help="captioned test pictures: files")
    parser.add_argument("--image_root", help="folder of the held-out pictures")
    parser.add_argument("--min_caption", type=float, default=0.2, help="each caption (0.2)")
    parser.add_argument("--min_direction", type=float, default=0.22, help="change (0.22)")
    parser.add_argument("--min_image", type=float, default=0.75, help="the two pictures (0.75)")
    parser.add_argument("--max_ssim", type=float, default=math.inf, help="the two pictures (any)")
    parser.add_argument("--max_held_out", type=float, default=0.95, help="test pictures (0.95)")
    parser.add_argument("--workers", type=int, default=4, help="processes that decode (4)")
    arguments = parser.parse_args(argv)
    if arguments.held_out and not arguments.tower:
        parser.error("--held_out wants a --tower, which compares the pictures.")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        shard = Shard(Edits(arguments.edits, arguments.captions), arguments)
        filter_shard(shard, arguments)
    except (OSError, ValueError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
