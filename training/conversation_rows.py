"""The conversations that a recipe names: opened, looked at whole, and packed."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import datasets
import datasets.config
import numpy as np

from mllm.collate import Collator
from mllm.conversation_files import Conversations
from mllm.conversations import ConversationError
from mllm.packs import Pack, pack
from training.sources import ConversationSource, sources
from vision_tower.tables import expand

logger = logging.getLogger("training")

FORMAT = 3  # of what is measured: one more whenever rows are read otherwise than before
ROWS_A_PROCESS = 20_000  # below, starting one takes longer than it saves


class Measured(NamedTuple):
    """Of each row [rows]: its tokens, 0 for a broken one; whether it has a picture; and what is
    wrong with it, "" for a sound one."""

    tokens: np.ndarray
    pictured: np.ndarray
    problems: list[str]


def open_conversations(
    entries: Sequence[str], image_root: str
) -> tuple[list[Conversations], list[float]]:
    """The sets of `ConversationSource` entries, and their weights. `image_root` is for those that
    name none. Raises FileNotFoundError or ConversationError."""
    told = sources(ConversationSource, entries)
    sets = [Conversations(expand(one.patterns), one.image_root or image_root) for one in told]
    return sets, [one.weight for one in told]


def measure(rows: Conversations, collator: Collator) -> Measured:
    """Every row read and tokenised, once: `datasets`' cache keeps what was found. Whether pictures
    are there is looked up each time.
    """
    key = repr((rows.fingerprint, _settings(collator)))
    name = hashlib.sha256(key.encode()).hexdigest()[:32]
    folder = Path(datasets.config.HF_DATASETS_CACHE) / "measured"
    folder.mkdir(parents=True, exist_ok=True)
    processes = min(os.cpu_count() or 1, len(rows) // ROWS_A_PROCESS)
    table = datasets.Dataset.from_dict({"row": range(len(rows))}).map(
        lambda index: _measured(rows, collator, index),
        input_columns="row",
        cache_file_name=str(folder / f"{name}.arrow"),
        new_fingerprint=name,
        num_proc=processes if processes > 1 else None,
        features=datasets.Features(
            {
                "tokens": datasets.Value("int32"),
                "pictured": datasets.Value("bool"),
                "files": datasets.List(datasets.Value("string")),
                "problem": datasets.Value("string"),
            }
        ),
        remove_columns="row",
        desc="Reading conversations",
    )
    problems = cast("list[str]", list(table["problem"]))
    for row, (problem, files) in enumerate(zip(problems, table["files"], strict=True)):
        # Path.is_file raises for what is too long to be a path.
        gone = next((one for one in files if not os.path.isfile(one)), None)  # noqa: PTH113
        if gone is not None and not problem:
            problems[row] = rows[row].lacks(gone)
    sound = np.array([not problem for problem in problems])
    return Measured(np.array(table["tokens"]) * sound, np.array(table["pictured"]), problems)


def _settings(collator: Collator) -> tuple[Any, ...]:
    """What a row's tokens depend on besides the row."""
    tokenizer = collator.processor.tokenizer
    words = tokenizer.backend_tokenizer.to_str()
    return FORMAT, words, tokenizer.chat_template, collator.image_tokens, collator.max_length


def _measured(rows: Conversations, collator: Collator, index: int) -> dict[str, Any]:
    try:
        conversation = rows[index]
        [row] = collator.encode([conversation])
    except ConversationError as error:
        return {"tokens": 0, "pictured": False, "files": [], "problem": str(error)}
    files = [str(one) for one in conversation.pictures if isinstance(one, Path)]
    pictured = bool(conversation.pictures)
    return {"tokens": len(row.labels), "pictured": pictured, "files": files, "problem": ""}


def require_within_budget(found: Sequence[Measured], budget: float) -> None:
    """Raise ConversationError if more than a share of `budget` of all rows cannot be trained on;
    say how many are left out otherwise."""
    problems = [problem for one in found for problem in one.problems if problem]
    total = sum(len(one.problems) for one in found)
    if len(problems) > budget * total:
        raise ConversationError(
            f"{problems[0]} ({len(problems)} of {total} rows cannot be trained on; "
            f"--quarantine_budget allows {int(budget * total)}. scripts/check_data.py names all.)"
        )
    if problems:
        logger.warning(
            "%d of %d rows are left out (scripts/check_data.py names all), for one: %s.",
            *(len(problems), total, problems[0]),
        )


def weighted(found: Sequence[Measured], weights: Sequence[float], seed: int) -> np.ndarray:
    """Rows of an epoch, sets counted through as one: the sound ones of a set of weight 2.5 twice,
    and half of them, drawn by `seed`, once more. It is the same half in every epoch: another would
    make other packs, and with them another number of steps."""
    chosen, start = [], 0
    for number, (one, weight) in enumerate(zip(found, weights, strict=True)):
        sound = start + np.flatnonzero(one.tokens)
        whole = int(weight)
        more = round((weight - whole) * len(sound))
        drawn = np.random.default_rng((seed, number)).permutation(sound)[:more]
        if not whole + len(drawn):
            raise ValueError(
                f"the conversations entry {number}, of weight {weight:g}, gives no row: it has "
                f"{len(sound)} that can be trained on. Raise its weight or leave it out."
            )
        chosen += [sound] * whole + [np.sort(drawn)]
        start += len(one.tokens)
    return np.concatenate(chosen)


def packs_of(
    lengths_of: np.ndarray, pictured: np.ndarray, room: int, blank: int, seed: int
) -> tuple[list[Pack], list[int]]:
    """Rows of these lengths in packs of at most `room` tokens, or each alone for 0; and the packs'
    lengths. A pack of rows without a picture leaves room for a blank one.

    Raises ValueError if a row without a picture leaves none.
    """
    if not room:
        return [[row] for row in range(len(lengths_of))], lengths_of.tolist()
    longest = int(lengths_of[~pictured].max(initial=0))
    if longest + blank > room:
        raise ValueError(
            f"--batch_tokens {room} does not hold the longest row without a picture, of {longest} "
            f"tokens, and the blank picture of {blank} that stands beside it: raise it to "
            f"{longest + blank}, or lower --max_length to {room - blank}."
        )
    packs = pack(lengths_of.tolist(), pictured.tolist(), room, blank, seed)
    lengths = [int(lengths_of[one].sum()) for one in packs]
    padding = 1 - sum(lengths) / (room * len(packs))
    logger.info("%d packs of %d tokens, %.1f %% of them empty.", len(packs), room, 100 * padding)
    return packs, lengths
