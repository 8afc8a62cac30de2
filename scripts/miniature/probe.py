"""What a linear classifier reads off a tower's patch features: the MLLM's view of each object.

    python scripts/miniature/probe.py scripts/miniature/models/clip out/miniature/.../tower --random

Features are those LLaVA takes (hidden layer -2, without the class token), averaged over the grid
cell of an object. A logistic regression per property is fitted on training scenes and scored on
held-out ones. ``--random`` adds the first tower's architecture with random weights: what it reads
is given away by the patches, not learned.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F
from transformers import CLIPImageProcessor, CLIPVisionModel

from scripts.miniature.render import render
from scripts.miniature.world import COLOURS, SHAPES, SIZES, SURFACES, Scene, random_scene_of

PROPERTIES = {"colour": COLOURS, "shape": SHAPES, "size": SIZES, "surface": SURFACES}
TRAIN_PICTURES, TEST_PICTURES, SEED = 3000, 1500, 12345


def draw(count: int, held_out: bool) -> tuple[list[Scene], list]:
    rng, generator = random.Random(SEED + held_out), np.random.default_rng(SEED + held_out)
    scenes = [random_scene_of(rng, held_out) for _ in range(count)]
    return scenes, [render(scene, generator) for scene in scenes]


@torch.no_grad()
def object_features(
    model: CLIPVisionModel, processor: CLIPImageProcessor, scenes: list[Scene], pictures: list
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Features [objects, width] of all objects, and their labels by property."""
    features, labels = [], {name: [] for name in PROPERTIES}
    for start in range(0, len(scenes), 250):
        batch = slice(start, start + 250)
        pixels = processor(pictures[batch], return_tensors="pt").pixel_values
        hidden_BLW = model(pixels, output_hidden_states=True).hidden_states[-2][:, 1:]
        side = int(hidden_BLW.shape[1] ** 0.5)
        grid_BWHH = hidden_BLW.transpose(1, 2).unflatten(2, (side, side))
        cells_BCW = F.adaptive_avg_pool2d(grid_BWHH, 3).flatten(2).transpose(1, 2)
        for row, scene in enumerate(scenes[batch]):
            for thing in scene.things:
                features.append(cells_BCW[row, thing.place])
                for name, values in PROPERTIES.items():
                    labels[name].append(values.index(getattr(thing, name)))
    return torch.stack(features), {name: torch.tensor(rows) for name, rows in labels.items()}


def fit_and_score(
    train: tuple[torch.Tensor, torch.Tensor], test: tuple[torch.Tensor, torch.Tensor]
) -> float:
    """Held-out accuracy of a multinomial logistic regression with a little weight decay."""
    mean, std = train[0].mean(0), train[0].std(0) + 1e-6
    classifier = torch.nn.Linear(train[0].shape[1], int(train[1].max()) + 1)
    inputs = (train[0] - mean) / std
    optimizer = torch.optim.LBFGS(
        classifier.parameters(), max_iter=150, line_search_fn="strong_wolfe"
    )

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(classifier(inputs), train[1])
        value = value + 1e-3 * classifier.weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    hits = classifier((test[0] - mean) / std).argmax(1) == test[1]
    return hits.float().mean().item()


def probe(
    model: CLIPVisionModel, processor: CLIPImageProcessor, train: tuple, test: tuple
) -> dict[str, float]:
    model.eval()
    train_features, train_labels = object_features(model, processor, *train)
    test_features, test_labels = object_features(model, processor, *test)
    return {
        name: fit_and_score(
            (train_features, train_labels[name]), (test_features, test_labels[name])
        )
        for name in PROPERTIES
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("towers", nargs="+", type=Path, help="tower directories")
    parser.add_argument("--random", action="store_true", help="also the same with random weights")
    parser.add_argument("--output", type=Path, help="json file for the accuracies")
    arguments = parser.parse_args()
    train = draw(TRAIN_PICTURES, held_out=False)
    test = draw(TEST_PICTURES, held_out=True)
    accuracies: dict[str, dict[str, float]] = {}
    for directory in arguments.towers:
        model = CLIPVisionModel.from_pretrained(directory / "vision", dtype=torch.float32)
        processor = CLIPImageProcessor.from_pretrained(directory / "vision")
        if arguments.random and not accuracies:
            torch.manual_seed(SEED)
            untrained = CLIPVisionModel(model.config)
            accuracies["random"] = probe(untrained, processor, train, test)
        accuracies[str(directory)] = probe(model, processor, train, test)
    for name, values in accuracies.items():
        told = "  ".join(f"{prop} {100 * value:5.1f}" for prop, value in values.items())
        print(f"{told}  {name}")
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(accuracies, indent=2) + "\n")


if __name__ == "__main__":
    main()
