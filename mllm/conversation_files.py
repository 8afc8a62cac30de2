"""Files of conversations: rows on disk, mapped into memory, whatever their number."""

from __future__ import annotations

import itertools
import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO, cast

import datasets
from datasets.exceptions import DatasetGenerationError
from pyarrow import parquet
from torch.utils.data import Dataset

from mllm.conversations import Conversation, ConversationError, read_conversation

ROW = "row"  # the one column that a json file becomes: a row's json text


class Conversations(Dataset[Conversation]):
    """Map-style over all rows of several files, in their order.

    Rows of json files may differ in their fields, as those of LLaVA's mixtures do; they are kept as
    text in `datasets`' cache. Those of parquet files may hold their pictures' bytes.
    """

    def __init__(self, files: Sequence[str | Path], image_root: str | Path | None = None) -> None:
        """
        Args:
            files: json, jsonl or parquet.
            image_root: the folder that the rows' paths of pictures are relative to; by default
                the one that a row's file lies in.

        Raises ConversationError for a file that is missing, of another kind, broken or empty.
        """
        self._files = [Path(file) for file in files]
        self._roots = [Path(image_root or file.parent) for file in self._files]
        self._tables = [_opened(file) for file in self._files]
        self._ends = list(itertools.accumulate(len(table) for table in self._tables))
        states = [(str(file.absolute()), *_state(file)) for file in self._files]
        # Of the rows as they were opened: it changes with the files.
        self.fingerprint = repr((states, [str(root) for root in self._roots]))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Conversation:
        """Raises ConversationError for a row that cannot be trained on."""
        number = bisect_right(self._ends, index)
        position = index - (self._ends[number - 1] if number else 0)
        values = self._tables[number][position]
        source = f"{self._files[number]}: row {position}"
        if ROW in values:
            values = json.loads(values[ROW])
            if not isinstance(values, dict):
                raise ConversationError(f"{source} is no object: remove or repair it")
        return read_conversation(values, source, self._roots[number])


def _opened(file: Path) -> datasets.Dataset:
    if file.is_dir():
        raise ConversationError(f"{file} is a folder: give its files, {file}/*.json for one")
    if not file.is_file():
        raise ConversationError(f"{file} does not exist: check `conversations` in the recipe")
    try:
        table = _read(file)
    except (DatasetGenerationError, ValueError) as error:
        reason = error.__cause__ or error
        if "corresponds to no data" in str(reason):
            reason = "it holds no row"
        raise ConversationError(
            f"{file} cannot be read as rows of conversations ({reason}): repair or fetch it again"
        ) from error
    return table


def _read(file: Path) -> datasets.Dataset:
    if file.suffix == ".parquet":
        stored = datasets.Features.from_arrow_schema(parquet.read_schema(file))
        features = datasets.Features(_undecoded(stored))
        told = datasets.Dataset.from_parquet(str(file), features=features)
        return cast("datasets.Dataset", told)
    if file.suffix not in (".json", ".jsonl"):
        raise ValueError("known are .json, .jsonl and .parquet")
    told = datasets.Dataset.from_generator(
        _json_rows,
        # The cache knows a table by these.
        gen_kwargs={"file": str(file.absolute()), "state": _state(file)},
        features=datasets.Features({ROW: datasets.Value("large_string")}),
    )
    return cast("datasets.Dataset", told)


def _state(file: Path) -> tuple[int, int]:
    told = file.stat()
    return told.st_mtime_ns, told.st_size


def _undecoded(feature: Any) -> Any:
    """The same with pictures as they are stored, wherever they stand."""
    if isinstance(feature, datasets.Image):
        return datasets.Image(decode=False)
    if isinstance(feature, dict):
        return {name: _undecoded(part) for name, part in feature.items()}
    if isinstance(feature, (datasets.List, datasets.LargeList)):
        return replace(feature, feature=_undecoded(feature.feature))
    return feature


def _json_rows(file: str, state: tuple[int, int]) -> Iterator[dict[str, str]]:
    with Path(file).open(encoding="utf-8-sig") as text:
        rows = _of_lines(text) if file.endswith(".jsonl") else _of_whole(text)
        yield from ({ROW: json.dumps(row)} for row in rows)


def _of_lines(text: TextIO) -> Iterator[Any]:
    return (json.loads(line) for line in filter(str.strip, text))


def _of_whole(text: TextIO) -> Iterable[Any]:
    """Of a list; or of json-lines, which are often called .json too."""
    try:
        rows = json.load(text)
    except json.JSONDecodeError as error:
        if not error.doc.lstrip().startswith("{"):
            raise
        text.seek(0)
        return _of_lines(text)
    if not isinstance(rows, list):
        raise ValueError("it holds no list of rows: wrap the rows in [ ]")
    return rows
