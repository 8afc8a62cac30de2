"""What scripts/check_data.py says of conversations: recipes of stages 3 and 4."""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import track
from rich.text import Text
from torch.utils.data import DataLoader, Dataset, Subset
from transformers import AutoProcessor, LlavaConfig, LlavaProcessor

from mllm.collate import IGNORED, Collator
from mllm.conversation_files import Conversations
from mllm.conversations import ConversationError
from mllm.packs import OpenedRows
from mllm.processor import build_processor, image_token_count, patches, vision_config
from training.conversation_rows import open_conversations
from training.finetune import Finetune
from training.pretrain_projector import PretrainProjector
from training.sources import ConversationSource, sources

SHOWN = 5  # problems on the terminal; all of them are in the report
Stage = Finetune | PretrainProjector


class CheckedConversation(NamedTuple):
    """A row as training would see it. Of a broken one `problem` says why, and there is no more."""

    problem: str = ""
    tokens: int = 0  # of which so many are learned
    supervised: int = 0
    pictures: int = 0
    turns: int = 0


class CheckedConversations(Dataset[CheckedConversation]):
    """Every row read, tokenised, and its pictures decoded."""

    def __init__(self, rows: Conversations, collator: Collator) -> None:
        self.rows, self.collator = OpenedRows(rows), collator

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> CheckedConversation:
        try:
            opened = self.rows[index]
            [row] = self.collator.encode([opened.conversation])
        except ConversationError as error:
            return CheckedConversation(str(error))
        learned = sum(label != IGNORED for label in row.labels)
        said = opened.conversation.messages
        return CheckedConversation(
            tokens=len(row.labels),
            supervised=learned,
            pictures=len(opened.pictures),
            turns=sum(message["role"] == "assistant" for message in said),
        )


def check_conversations(args: Stage, flags: argparse.Namespace, sample: int) -> int:
    """Look at all that `args` names, or at `sample` rows of each entry with `flags.fast`; write
    report.json and lengths.png. Returns the status: 1 if training would stop."""
    processor, image_tokens = processor_of(args)
    collator = Collator(processor, image_tokens, args.max_length)
    sets, _ = open_conversations(args.conversations, args.image_root)
    entries = sources(ConversationSource, args.conversations)
    found = []
    for rows, entry in zip(sets, entries, strict=True):
        name = " ".join(entry.patterns)
        chosen = range(len(rows))
        if flags.fast:
            chosen = np.unique(np.linspace(0, len(rows) - 1, sample).astype(int)).tolist()
        checked = Subset(CheckedConversations(rows, collator), chosen)
        loader = DataLoader(checked, batch_size=32, num_workers=flags.workers, collate_fn=list)
        shown = track(loader, name[-40:], transient=True, disable=not sys.stdout.isatty())
        found.append(Found(name, len(rows), [one for batch in shown for one in batch]))
        show(rows, collator, flags.show)
    report(found, args.max_length, flags.output)
    broken = sum(len(one.problems) for one in found)
    return int(broken > args.quarantine_budget * sum(len(one.rows) for one in found))


def processor_of(args: Stage) -> tuple[LlavaProcessor, int]:
    """What makes tokens of rows, and tokens of a picture; nothing of the weights is read."""
    if isinstance(args, Finetune):
        config = LlavaConfig.from_pretrained(args.model)
        return AutoProcessor.from_pretrained(args.model), image_token_count(config)
    processor = build_processor(args.vision_tower, args.language_model, args.system)
    return processor, patches(vision_config(args.vision_tower))


class Found(NamedTuple):
    name: str
    total: int
    rows: list[CheckedConversation]

    @property
    def problems(self) -> list[str]:
        return [row.problem for row in self.rows if row.problem]

    def told(self, max_length: int) -> dict[str, Any]:
        """As json values."""
        sound = [row for row in self.rows if not row.problem]
        tokens = np.array([row.tokens for row in sound])
        return {
            "entry": self.name,
            "rows": self.total,
            "checked": len(self.rows),
            "broken": len(self.problems),
            "tokens": quantiles(tokens),
            "learned_share": sum(row.supervised for row in sound) / max(1, int(tokens.sum())),
            "as_long_as_allowed": int((tokens >= max_length).sum()),
            "answers": quantiles(np.array([row.turns for row in sound])),
            "pictures": dict(sorted(Counter(row.pictures for row in sound).items())),
            "problems": self.problems,
        }


def quantiles(values: np.ndarray) -> dict[str, int]:
    """Smallest, median, 95th percentile and largest; nothing of nothing."""
    if not len(values):
        return {}
    found = np.quantile(values, [0, 0.5, 0.95, 1], method="nearest").tolist()
    return dict(zip(("least", "median", "95 %", "most"), found, strict=True))


def report(found: list[Found], max_length: int, output: Path) -> None:
    """On the terminal, and as report.json and lengths.png."""
    told = [one.told(max_length) for one in found]
    output.mkdir(parents=True, exist_ok=True)
    (output / "report.json").write_text(json.dumps(told, indent=2), encoding="utf-8")
    figure = Figure(figsize=(8, 2.6 * len(found)), layout="constrained", dpi=120)
    panels = figure.subplots(len(found), 1, squeeze=False)[:, 0]
    for axes, one in zip(panels, found, strict=True):
        lengths = [row.tokens for row in one.rows if not row.problem]
        axes.hist(lengths, bins=np.linspace(0, max_length + 1, 60).tolist())
        axes.axvline(max_length, color="#b4453c", label=f"max_length {max_length}")
        axes.set_title(one.name[-90:], loc="left", fontsize=9)
        axes.set(xlabel="tokens of a row, with its pictures", ylabel="rows")
        axes.legend()
    figure.savefig(output / "lengths.png")
    print("\n".join(line for one in told for line in lines(one)))
    print(f"In {output}: report.json, with all broken rows, and lengths.png.")


def lines(told: dict[str, Any]) -> Iterator[str]:
    yield told["entry"]
    yield f"  {told['rows']:,} rows, {told['checked']:,} checked, {told['broken']:,} broken"
    if told["tokens"]:
        span = "{least} to {most} (median {median}, 95 % up to {95 %})"
        yield f"  {span.format(**told['tokens'])} tokens a row, pictures included"
        yield f"  {told['as_long_as_allowed']:,} as long as max_length, or cut at it"
        yield f"  {100 * told['learned_share']:.1f} % of the tokens are learned"
        yield f"  {span.format(**told['answers'])} answers a row"
        pictures = ", ".join(
            f"{number}: {rows:,} rows" for number, rows in told["pictures"].items()
        )
        yield f"  pictures a row: {pictures}"
    yield from (f"  broken: {problem}" for problem in told["problems"][:SHOWN])


def show(rows: Conversations, collator: Collator, number: int) -> None:
    """The first rows as the model reads them: what it learns is green, each picture one word."""
    console, tokenizer = Console(), collator.processor.tokenizer
    image = collator.processor.image_token
    for index in range(min(number, len(rows))):
        try:
            [row] = collator.encode([rows[index]])
        except ConversationError as error:
            console.print(Text(str(error), style="red"), soft_wrap=True)
            continue
        text = Text(f"{rows[index].source}\n", style="bold")
        tokens = zip(row.input_ids, row.labels, strict=True)
        for learned, run in itertools.groupby(tokens, lambda token: token[1] != IGNORED):
            words = tokenizer.decode([token for token, _ in run])
            words = words.replace(image * collator.image_tokens, image)
            text.append(words, style="bold green" if learned else "not bold dim")
        console.print(text, soft_wrap=True)
