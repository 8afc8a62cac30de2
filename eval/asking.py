"""The models that a run asks: where they are, what a result calls them, how they decode."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from huggingface_hub.utils import HFValidationError, validate_repo_id

from eval.generate import Answers
from eval.parts import processes
from eval.provenance import model_identity, tower_hash


@dataclass(frozen=True)
class Named:
    """A model by its name: a directory, a hub id, or what an OpenAI-compatible server calls it."""

    name: str
    endpoint: str | None
    thinking: ClassVar[bool] = True  # whether it may think aloud before it answers

    def identity(self) -> dict[str, str | None]:
        """What a result calls it, with the hash of its files where they are here."""
        if self.endpoint is not None:
            return {"name": self.name, "sha256": None, "endpoint": self.endpoint}
        return model_identity(self.name)

    def require_name(self) -> None:
        """Raise FileNotFoundError for neither directory nor hub id; the hub is not asked."""
        if self.endpoint is not None or Path(self.name).is_dir():
            return
        try:
            validate_repo_id(self.name)
        except HFValidationError as error:
            raise FileNotFoundError(
                f"{self.name}: no such directory, and no hub id either; check the name."
            ) from error

    def open(self) -> Answers:
        """Load it, or reach for it; raises ValueError if it is not of the right kind."""
        # transformers takes seconds to import; scoring a file of answers does without.
        from mllm.endpoint import Endpoint

        if self.endpoint is None:
            return self._load()
        return Endpoint(self.endpoint, self.name, thinking=self.thinking)

    def _load(self) -> Answers:
        raise NotImplementedError


@dataclass(frozen=True)
class Subject(Named):
    """The vision-language model whose answers are scored."""

    def identity(self) -> dict[str, str | None]:
        """With the hash of its vision tower's weights, too."""
        return super().identity() | {"tower": tower_hash(Path(self.name))}

    def _load(self) -> Answers:
        from mllm.chat import open_answerer

        return open_answerer(self.name, str(processes().device))


@dataclass(frozen=True)
class Judge(Named):
    """The language model that judges answers; it sees no pictures."""

    # A verdict is read by its words, and its few tokens would be gone before the thoughts end.
    thinking: ClassVar[bool] = False

    def _load(self) -> Answers:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from mllm.answerer import TextAnswerer

        # One process may take all GPUs; of several, each has its own.
        place = "auto" if processes().num_processes == 1 else str(processes().device)
        try:
            model = AutoModelForCausalLM.from_pretrained(self.name, device_map=place, dtype="auto")
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0]  # a list of all classes may follow
            raise ValueError(
                f"{self.name} cannot be opened as a language model ({reason}); check --judge."
            ) from error
        return TextAnswerer(model, AutoTokenizer.from_pretrained(self.name))


@dataclass(frozen=True)
class Decoding:
    """How a model is asked. `max_new_tokens`: None leaves each benchmark its own limit."""

    max_new_tokens: int | None
    batch_size: int
