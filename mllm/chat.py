"""Talking to a LLaVA directory. Template, stop tokens and preprocessing come from the checkpoint
alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import (
    AutoProcessor,
    BatchFeature,
    LlavaForConditionalGeneration,
    StoppingCriteria,
    StoppingCriteriaList,
    TextIteratorStreamer,
)

from mllm.directory import require_llava

Message = dict[str, Any]


class Chat:
    """A loaded model that answers questions, with or without a picture, greedily."""

    def __init__(self, directory: str | Path, device: str | None = None) -> None:
        """Load the checkpoint.

        Args:
            directory: a LLaVA directory (or hub id) with its processor.
            device: where to run; the first GPU when there is one, else the CPU.

        Raises:
            ValueError: the directory holds no LLaVA model or no chat template.
        """
        require_llava(directory)
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.processor = AutoProcessor.from_pretrained(directory)
        if self.processor.chat_template is None:
            raise ValueError(
                f"{directory} has no chat_template.jinja: assemble it again with mllm.assemble"
            )
        self.model = LlavaForConditionalGeneration.from_pretrained(
            directory, dtype="auto", device_map=self.device
        ).eval()

    def answer(self, image: Image.Image | None, question: str, *, max_new_tokens: int = 256) -> str:
        """The model's answer to one question."""
        return self.answer_batch([(image, question)], max_new_tokens=max_new_tokens)[0]

    def answer_batch(
        self, pairs: Sequence[tuple[Image.Image | None, str]], *, max_new_tokens: int = 256
    ) -> list[str]:
        """Answers to several questions, decoded together; pictures and pure text may be mixed."""
        inputs = self._inputs([[question_message(image, text)] for image, text in pairs])
        generated = self._generate(inputs, max_new_tokens=max_new_tokens)
        spoken = generated[:, inputs["input_ids"].shape[1] :]
        texts = self.processor.batch_decode(spoken, skip_special_tokens=True)
        return [text.strip() for text in texts]

    def stream(self, messages: list[Message], *, max_new_tokens: int = 512) -> Iterator[str]:
        """Pieces of the next answer as they are generated.

        Args:
            messages: transformers' chat messages; a picture is {"type": "image", "image": PIL
            image}.
            max_new_tokens: upper bound of the answer.

        An error in the generating thread is raised here; a closed iterator stops the thread.
        """
        inputs = self._inputs([messages])
        streamer = TextIteratorStreamer(
            self.processor.tokenizer, skip_prompt=True, skip_special_tokens=True
        )
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

    def _inputs(self, conversations: list[list[Message]]) -> BatchFeature:
        inputs = self.processor.apply_chat_template(
            conversations,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True},
        )
        return inputs.to(self.device, dtype=self.model.dtype)

    @torch.inference_mode()
    def _generate(self, inputs: BatchFeature, **settings: Any) -> torch.Tensor:
        generate = self.model.generate  # pyright: ignore[reportAttributeAccessIssue]
        return generate(**inputs, **settings)


def question_message(image: Image.Image | None, question: str) -> Message:
    """One user turn, the picture first."""
    content: list[dict[str, Any]] = [{"type": "text", "text": question}]
    if image is not None:
        content.insert(0, {"type": "image", "image": image})
    return {"role": "user", "content": content}


class _Stop(StoppingCriteria):
    """Ends generation once nobody listens any more."""

    def __init__(self, closed: threading.Event) -> None:
        self.closed = closed

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
        return torch.full((len(input_ids),), self.closed.is_set(), device=input_ids.device)
