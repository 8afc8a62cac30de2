"""How much of everything is written to disk."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    """Numbers of pictures and pairs; the defaults are the miniature's.

    The kinds of edit share the pairs of MMVP and MMVP-VLM evenly; a remainder is left out.
    """

    pictures: int = 12_000
    edit_pairs: int = 30_000
    held_out_pictures: int = 1_000
    held_out_pairs_per_kind: int = 60
    pope_pictures: int = 250
    mmvp_pairs: int = 600
    mmvp_vlm_pairs: int = 400
    chair_pictures: int = 250
