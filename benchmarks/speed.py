"""Training steps side by side: what `tower_step.py` measures of speed.

Weights and pictures are random, captions are random tokens of realistic numbers. Turns alternate;
a speed-up is that over the turn beside it.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.steps import Batch, FoveaTurn, Machine, OpenClipTurn, TextTurn, Turn
from vision_tower.objectives import ContrastiveObjective
from vision_tower.tokenizer import GROUPS
from vision_tower.towers import Tower, load_tower

SHORT_CONTEXT, LONG_CONTEXT, ROTARY_BASE = 77, 248, 10000.0
# Tokens of a caption, its start and end among them: mean and standard deviation. Those of
# ShareGPT4V-PT have 826 characters on average (arXiv 2311.12793, table 1), and CLIP's tokens 4.4 of
# such a text. No spread is published: it is a guess, and so are the short ones, as alt texts are.
SHORT_TOKENS, LONG_TOKENS = (17.0, 6.0), (188.0, 40.0)

Spread = dict[str, float]
Section = dict[str, dict[str, Spread]]


@dataclass(frozen=True)
class Setting:
    """What all sections share. `weights` is a file of the architecture's random weights."""

    architecture: str
    weights: Path
    batch_size: int
    steps: int  # of a turn, and one more that is not counted
    repeats: int
    micro_batches: int
    machine: Machine

    def tower(self, groups: int = 1) -> Tower:
        """Which encodes texts in so many groups of like length; 1 takes them as they come."""
        tower = load_tower(f"{self.architecture}:{self.weights}")
        tower.tokenizer.groups = groups
        return tower

    def rotary_tower(self, groups: int) -> Tower:
        tower = self.tower().with_rotary_text(LONG_CONTEXT, ROTARY_BASE)
        tower.tokenizer.groups = groups
        return tower

    def fovea(
        self, tower: Tower, batches: Sequence[Batch], long: float = 0.0, micro_batches: int = 1
    ) -> FoveaTurn:
        objective = ContrastiveObjective(tower, short=1.0, long=long, hard_negative=0.0)
        return FoveaTurn(objective, batches, self.machine, self.weights.parent, micro_batches)

    def batches(self, context: int) -> list[Batch]:
        """Trimmed: rows of one batch, as `PairCollator` makes them."""
        tower, rng = self.tower(), np.random.default_rng(0)
        size, vocabulary = tower.visual.image_size, tower.text.vocab_size
        sizes = size if isinstance(size, tuple) else (size, size)
        return [
            {
                "pixel_values": torch.randn(self.batch_size, 3, *sizes, device=self.machine.device),
                "short_tokens": self._texts(rng, SHORT_TOKENS, context, vocabulary),
                "long_tokens": self._texts(rng, LONG_TOKENS, context, vocabulary),
            }
            for _ in range(self.steps + 1)
        ]

    def _texts(
        self, rng: np.random.Generator, tokens: tuple[float, float], context: int, vocabulary: int
    ) -> Tensor:
        lengths = rng.normal(*tokens, self.batch_size).round().clip(3, context).astype(int)
        token_BL = np.zeros((self.batch_size, lengths.max()), dtype=np.int64)
        for row, length in zip(token_BL, lengths, strict=True):
            row[:length] = rng.integers(1, vocabulary - 2, length)
            row[[0, length - 1]] = vocabulary - 2, vocabulary - 1  # where CLIP's start and end are
        return torch.from_numpy(token_BL).to(self.machine.device)


def padded(batches: Sequence[Batch], context: int) -> list[Batch]:
    names = ("short_tokens", "long_tokens")
    return [
        {**batch, **{n: F.pad(batch[n], (0, context - batch[n].shape[1])) for n in names}}
        for batch in batches
    ]


def in_parts(batches: Sequence[Batch], parts: int) -> list[Batch]:
    """Each batch as so many micro-batches."""
    cut = [{name: rows.tensor_split(parts) for name, rows in batch.items()} for batch in batches]
    return [{name: rows[i] for name, rows in batch.items()} for batch in cut for i in range(parts)]


def short_step(setting: Setting) -> tuple[Section, dict[str, list[float]]]:
    """And the loss before each turn's first step, which tells whether they train alike."""
    trimmed = setting.batches(SHORT_CONTEXT)
    batches = padded(trimmed, SHORT_CONTEXT)
    turns = {
        "open_clip_train": OpenClipTurn(
            setting.architecture, setting.weights, batches, setting.machine
        ),
        "fovea": setting.fovea(setting.tower(), batches),
        "fovea, trimmed": setting.fovea(setting.tower(GROUPS), trimmed),
    }
    return compare(turns, setting), {name: turn.losses for name, turn in turns.items()}


def long_step(setting: Setting) -> Section:
    turns = {
        name: setting.fovea(setting.rotary_tower(groups), batches, long=1.0)
        for name, groups, batches in _long_batches(setting)
    }
    return compare(turns, setting)


def texts(setting: Setting, names: Sequence[str]) -> Section:
    """The text encoder alone, forward and backward, on the batches' texts of these names."""
    turns = {}
    for name, groups, batches in _long_batches(setting):
        tower = setting.rotary_tower(groups).to(setting.machine.device)
        steps = [[batch[n] for n in names] for batch in batches]
        turns[name] = TextTurn(tower.encode_by_length, steps, setting.machine)
    return compare(turns, setting)


def _long_batches(setting: Setting) -> list[tuple[str, int, list[Batch]]]:
    """(name, groups of texts, batches)"""
    trimmed = setting.batches(LONG_CONTEXT)
    return [
        ("padded", 1, padded(trimmed, LONG_CONTEXT)),
        ("trimmed", 1, trimmed),
        ("trimmed, by length", GROUPS, trimmed),
    ]


def micro_batches(setting: Setting) -> Section:
    batches = setting.batches(SHORT_CONTEXT)
    parts = setting.micro_batches
    turns = {
        "one batch": setting.fovea(setting.tower(), batches),
        f"{parts} micro-batches": setting.fovea(
            setting.tower(), in_parts(batches, parts), micro_batches=parts
        ),
    }
    return compare(turns, setting)


def compare(turns: Mapping[str, Turn], setting: Setting) -> Section:
    """Samples/s of each, and its speed-up over the first of them, as medians and ranges over the
    repeats."""
    seconds: dict[str, list[float]] = {name: [] for name in turns}
    for repeat in range(setting.repeats):
        # There and back: a machine that grows slower favours nobody.
        for name, turn in list(turns.items())[:: -1 if repeat % 2 else 1]:
            seconds[name].append(turn())
    first = next(iter(seconds.values()))
    return {
        name: {
            "samples_per_second": spread([setting.batch_size / s for s in own]),
            "speedup": spread([base / s for base, s in zip(first, own, strict=True)]),
        }
        for name, own in seconds.items()
    }


def spread(values: Sequence[float]) -> Spread:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}
