"""The progress bar of everything that may take longer than a few seconds."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TypeVar

from rich.progress import track

Item = TypeVar("Item")


def bar(items: Sequence[Item], title: str) -> Iterable[Item]:
    """The items behind a bar that goes away at the end; a log file gets no bar."""
    return track(items, title, transient=True, disable=not sys.stdout.isatty())
