"""The models that benchmarks ask: opened here, or behind an endpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from huggingface_hub.utils import HFValidationError, validate_repo_id

from eval.generate import Answers
from eval.parts import processes
from eval.provenance import model_identity, tower_hash


@dataclass(frozen=True)
class NamedModel:
    """A directory or hub id of a vision-language model; with an endpoint (http://host:port/v1),
    the name that the server there gave it."""

    name: str
    endpoint: str | None = None

    def check(self) -> None:
        """Raise FileNotFoundError if the name can be none, before anything is loaded."""
        if self.endpoint is not None or Path(self.name).is_dir():
            return
        try:
            validate_repo_id(self.name)
        except HFValidationError as error:
            raise FileNotFoundError(
                f"{self.name}: no such directory, and no hub id either; check --model."
            ) from error

    def open(self) -> tuple[Answers, dict[str, str | None]]:
        """The model, and what is known of it: of one behind an endpoint, its name and where.

        Raises ValueError if it is no vision-language model, or the endpoint no address.
        """
        # Loads torch models; scoring a file of answers does without.
        if self.endpoint is not None:
            from mllm.endpoint import Endpoint

            endpoint = Endpoint(self.endpoint, self.name)
            return endpoint, {"name": self.name, "sha256": None, "endpoint": endpoint.url}
        from mllm.chat import open_answerer

        answerer = open_answerer(self.name, str(processes().device))
        told = {"tower": tower_hash(Path(self.name)), "dtype": str(answerer.model.dtype)}
        return answerer, model_identity(self.name) | told
