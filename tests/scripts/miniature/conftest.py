"""A very small miniature on disk, with a record of the scene that each picture shows."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scripts.miniature import benchmark_data, write_data
from scripts.miniature.render import render
from scripts.miniature.sizes import Sizes
from scripts.miniature.world import Scene

# Fewer rows than a chunk has, and no multiple of anything.
TINY = Sizes(
    pictures=23,
    edit_pairs=21,
    held_out_pictures=9,
    held_out_pairs_per_kind=2,
    pope_pictures=11,
    mmvp_pairs=20,
    mmvp_vlm_pairs=20,
    chair_pictures=7,
)
SEED = 3


@dataclass
class Recorder:
    """Draws pictures as ever and remembers what they show."""

    drawn: list[Scene] = field(default_factory=list)
    by_pixels: dict[bytes, Scene] = field(default_factory=dict)

    def render(self, scene: Scene, generator: np.random.Generator) -> Image.Image:
        picture = render(scene, generator)
        self.drawn.append(scene)
        self.by_pixels[picture.tobytes()] = scene
        return picture

    def scene_of(self, picture: Image.Image) -> Scene:
        """The scene of a picture that was written without loss."""
        return self.by_pixels[picture.convert("RGB").tobytes()]


@dataclass
class Written:
    """The data root; what was drawn for training data and held-out rows, and for benchmarks."""

    root: Path
    data: Recorder
    benchmarks: Recorder


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    root = tmp_path_factory.mktemp("data")
    data, benchmarks = Recorder(), Recorder()
    with pytest.MonkeyPatch.context() as patch:
        # One thread of this process in place of worker processes: drawings can be recorded.
        patch.setattr(write_data, "ProcessPoolExecutor", partial(ThreadPoolExecutor, 1))
        patch.setattr(write_data, "render", data.render)
        patch.setattr(benchmark_data, "render", benchmarks.render)
        write_data.write_data(root, SEED, TINY)
    return Written(root, data, benchmarks)
