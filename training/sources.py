"""The data a recipe names: files, or entries of a mixture with settings of their own.

    captions:
      - data/docci/docci_descriptions.jsonlines
      - {files: data/dreamlip/*.csv, image_root: data/cc3m, weight: 0.5}

On the command line an entry is the same text: --captions a.json '{files: b.csv, weight: 2}'.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TypeVar

from pydantic import ConfigDict, Field, PositiveFloat
from pydantic.dataclasses import dataclass

from training.recipe import from_mapping
from vision_tower.captions import Captions
from vision_tower.edits import Edits


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Source:
    """files: of any known set, folders too, or glob patterns of them.
    weight: how many times its rows are seen in an epoch.
    """

    files: str | list[str]
    weight: PositiveFloat = 1.0

    @property
    def patterns(self) -> list[str]:
        return [self.files] if isinstance(self.files, str) else self.files


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class CaptionSource(Source):
    """Described pictures.

    image_root: what paths of pictures are relative to; the folder of the file if it is not given.
    columns: of a set of your own: {image: <column>, long: <column>, short: <column>}.
    """

    image_root: str | None = None
    columns: dict[str, str] = Field(default_factory=dict)


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class EditSource(Source):
    """Edit pairs. Here a weight says how often rows are seen beside those of other entries.

    captions: json-lines of captions, for sets that have none.
    """

    captions: list[str] = Field(default_factory=list)


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class ConversationSource(Source):
    """Conversations. Of a weight with a fraction every epoch draws the same rows.

    image_root: what their paths of pictures are relative to; the recipe's if it is not given, and
        without that the folder of the file.
    """

    image_root: str | None = None


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Retention:
    """Held-out data that shows what a tower could do before.

    captions: files, or entries of `CaptionSource`: retrieval by their short captions.
    classes: a folder of folders of pictures, each named as its class: zero-shot accuracy.
    floor: share of the first scores below which stage 2 stops.
    """

    captions: list[str | dict] = Field(default_factory=list)
    classes: str | None = None
    floor: float = Field(default=0.8, ge=0, le=1)

    def open_captions(self) -> list[Captions]:
        """Every row looked at."""
        entries = [one if isinstance(one, str) else json.dumps(one) for one in self.captions]
        return open_captions(entries)[0]


Entry = TypeVar("Entry", bound=Source)


def sources(kind: type[Entry], entries: Sequence[str]) -> list[Entry]:
    """Mappings as text, each a set of its own; all patterns of files without settings are one.

    Raises ValueError for an entry that is neither.
    """
    plain = [entry for entry in entries if not entry.lstrip().startswith("{")]
    own = [from_mapping(kind, entry) for entry in entries if entry not in plain]
    return [kind(files=plain), *own] if plain else own


def open_captions(
    entries: Sequence[str], images: bool = True, side: int = 0
) -> tuple[list[Captions], list[float]]:
    """The sets of `CaptionSource` entries, every row looked at, and their weights.

    With `images`, the files of pictures must be there; `side` as `Captions` takes it.
    Raises FileNotFoundError or ValueError that names file, row and remedy.
    """
    told = sources(CaptionSource, entries)
    sets = [Captions(one.patterns, one.image_root, one.columns, side) for one in told]
    for captions in sets:
        captions.check(images)
    return sets, [one.weight for one in told]


def open_edits(entries: Sequence[str], side: int = 0) -> tuple[list[Edits], list[float]]:
    """The sets of `EditSource` entries, and their weights. Raises as `open_captions`."""
    told = sources(EditSource, entries)
    sets = [Edits(one.patterns, one.captions, side=side) for one in told]
    return sets, [one.weight for one in told]
