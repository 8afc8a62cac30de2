"""Asking chat models of transformers whole batches of questions, greedily."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from PIL import Image
from transformers import BatchEncoding, BatchFeature, PreTrainedModel, PreTrainedTokenizerBase

Message = dict[str, Any]
Question = tuple[Image.Image | None, str]
# What a chat template is asked for, a processor's or a tokenizer's.
QUESTIONS: dict[str, Any] = {
    **{"add_generation_prompt": True, "tokenize": True},
    **{"return_dict": True, "return_tensors": "pt"},
}
# Where models that think aloud begin, and end.
THOUGHTS, THOUGHTS_END = "<think>", "</think>"


class Answerer:
    """A vision-language model that answers questions, with or without a picture."""

    def __init__(
        self, model: PreTrainedModel, processor: Any, tokenizer: PreTrainedTokenizerBase
    ) -> None:
        """
        Args:
            model: a decoder, on the device and in the precision it answers in.
            processor: what makes the model's inputs of pictures and texts, by its chat template.
            tokenizer: the processor's.

        Raises:
            ValueError: there is no chat template.
        """
        if processor.chat_template is None:
            raise ValueError(
                f"{tokenizer.name_or_path} has no chat_template.jinja: give a model that was tuned "
                "for chat; one of ours, assemble again with mllm.assemble."
            )
        # Answers begin where the batch's questions end. Few language models bring a pad token.
        tokenizer.padding_side = "left"
        tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
        self.model, self.processor, self.tokenizer = model.eval(), processor, tokenizer

    @property
    def dtype(self) -> str:
        """What the model computes in: "bfloat16"."""
        return str(self.model.dtype).removeprefix("torch.")

    def answer_batch(self, pairs: Sequence[Question], *, max_new_tokens: int = 256) -> list[str]:
        """Answers to several questions, decoded together; pictures and pure text may be mixed.

        Raises ValueError, with the question, if a model that thinks aloud comes to no answer.
        """
        inputs = self._inputs([[question_message(image, text)] for image, text in pairs])
        return self._said([text for _, text in pairs], inputs, max_new_tokens=max_new_tokens)

    def _said(
        self, questions: Sequence[str], inputs: Mapping[str, Any], **settings: Any
    ) -> list[str]:
        prompt_BL = inputs["input_ids"]
        generated = self._generate(inputs, **settings)
        replies = self.tokenizer.batch_decode(
            generated[:, prompt_BL.shape[1] :], skip_special_tokens=True
        )
        # Some templates begin the thoughts themselves.
        prompt = self.tokenizer.batch_decode(prompt_BL[:1])[0]
        begun = THOUGHTS if prompt.rstrip().endswith(THOUGHTS) else ""
        answers = []
        for question, reply in zip(questions, replies, strict=True):
            try:
                answers.append(without_thoughts(begun + reply))
            except ValueError as error:
                raise ValueError(f"no answer to {question!r}: {error}") from error
        return answers

    def _inputs(self, conversations: list[list[Message]]) -> BatchFeature | BatchEncoding:
        inputs = self.processor.apply_chat_template(
            conversations, **QUESTIONS, processor_kwargs={"padding": True}
        )
        return inputs.to(self.model.device, dtype=self.model.dtype)

    @torch.inference_mode()
    def _generate(self, inputs: Mapping[str, Any], **settings: Any) -> torch.Tensor:
        # Checkpoints bring settings of their own, and many of those draw.
        generate = cast("Any", self.model).generate
        return generate(**inputs, do_sample=False, num_beams=1, **settings)


class TextAnswerer(Answerer):
    """A language model that answers questions; it takes no pictures."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__(model, tokenizer, tokenizer)

    def _inputs(self, conversations: list[list[Message]]) -> BatchEncoding:
        """Language models' templates take a turn as one string, not in parts."""
        texts = [
            [
                {"role": turn["role"], "content": "".join(part["text"] for part in turn["content"])}
                for turn in turns
            ]
            for turns in conversations
        ]
        inputs = self.tokenizer.apply_chat_template(
            texts,
            **QUESTIONS,
            padding=True,
            enable_thinking=False,  # Qwen3's templates; others do not look at it
        )
        assert isinstance(inputs, BatchEncoding)
        return inputs.to(self.model.device)


def question_message(image: Image.Image | None, question: str) -> Message:
    """One user turn, the picture first."""
    content: list[dict[str, Any]] = [{"type": "text", "text": question}]
    if image is not None:
        content.insert(0, {"type": "image", "image": image})
    return {"role": "user", "content": content}


def without_thoughts(reply: str) -> str:
    """The answer in a reply, without what the model thought before it.

    Benchmarks read answers by their words, and thoughts hold all of them ("correct or incorrect");
    lmms-eval (`strip_reasoning_tags`) parts the two in the same way.

    Raises ValueError if the thoughts have no end: they are no answer.
    """
    answer = reply.rpartition(THOUGHTS_END)[2].strip()
    if answer.startswith(THOUGHTS):
        raise ValueError(
            "it was still thinking at the limit of tokens; raise the limit, or take a model that "
            "does not think"
        )
    return answer
