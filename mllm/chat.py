"""Talking to a LLaVA directory, or asking any vision-language model. Template, stop tokens and
preprocessing come from the checkpoint alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    LlavaConfig,
    LlavaForConditionalGeneration,
    StoppingCriteria,
    StoppingCriteriaList,
    TextIteratorStreamer,
)

from mllm.adapters import has_adapters, open_adapted
from mllm.answerer import Answerer, Message
from mllm.directory import model_type, readable_weights, require_llava
from mllm.picture_prefix import PrefixAnswerer


class Chat(PrefixAnswerer):
    """A loaded LLaVA that answers questions, with or without a picture, greedily."""

    def __init__(self, directory: str | Path, device: str | None = None) -> None:
        """Load the checkpoint.

        Args:
            directory: a LLaVA directory (or hub id) with its processor, or adapters of one.
            device: where to run; the first GPU when there is one, else the CPU.

        Raises:
            ValueError: the directory holds no LLaVA model or no chat template, weights that cannot
                be read, or adapters that are damaged or of one that is not there.
        """
        settings = _placed(device)
        if has_adapters(directory):
            model: Any = open_adapted(directory, **settings)
        else:
            require_llava(directory)
            with readable_weights(directory):
                model = LlavaForConditionalGeneration.from_pretrained(directory, **settings)
        processor = AutoProcessor.from_pretrained(directory)
        super().__init__(model, processor, processor.tokenizer)

    def answer(self, image: Image.Image | None, question: str, *, max_new_tokens: int = 256) -> str:
        """The model's answer to one question."""
        return self.answer_batch([(image, question)], max_new_tokens=max_new_tokens)[0]

    def stream(self, messages: list[Message], *, max_new_tokens: int = 512) -> Iterator[str]:
        """Pieces of the next answer as they are generated.

        Args:
            messages: transformers' chat messages; a picture is {"type": "image", "image": PIL
            image}.
            max_new_tokens: upper bound of the answer.

        An error in the generating thread is raised here; a closed iterator stops the thread.
        """
        inputs = self._inputs([messages])
        streamer = TextIteratorStreamer(self.tokenizer, skip_prompt=True, skip_special_tokens=True)
        closed = threading.Event()
        failures: list[BaseException] = []

        def generate() -> None:
            try:
                self._generate(
                    inputs,
                    max_new_tokens=max_new_tokens,
                    streamer=streamer,
                    stopping_criteria=StoppingCriteriaList([_Stop(closed)]),
                )
            except BaseException as error:
                failures.append(error)
                streamer.end()

        thread = threading.Thread(target=generate, daemon=True)
        thread.start()
        try:
            yield from streamer
        finally:
            closed.set()
            thread.join()
        if failures:
            raise failures[0]


def open_answerer(name: str | Path, device: str | None = None) -> Answerer:
    """Any vision-language model of transformers, in the precision it was saved in: a LLaVA, or
    adapters of one, looks at a picture once (`Chat`); another is asked the plain way.

    Raises ValueError if it is no such model, or has no chat template.
    """
    if has_adapters(name) or model_type(name) == LlavaConfig.model_type:
        return Chat(name, device)
    with readable_weights(name):
        try:
            model = AutoModelForImageTextToText.from_pretrained(name, **_placed(device))
        except ValueError as error:
            raise ValueError(
                f"{name} holds a {model_type(name)!r} model, which transformers does not know as a "
                f"vision-language model ({str(error).splitlines()[0]}); check the name."
            ) from error
    processor = AutoProcessor.from_pretrained(name)
    return Answerer(model, processor, processor.tokenizer)


def _placed(device: str | None) -> dict[str, Any]:
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return {"dtype": "auto", "device_map": device}


class _Stop(StoppingCriteria):
    """Ends generation once nobody listens any more."""

    def __init__(self, closed: threading.Event) -> None:
        self.closed = closed

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
        return torch.full((len(input_ids),), self.closed.is_set(), device=input_ids.device)
