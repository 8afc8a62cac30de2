"""Write captions for edit pairs that have none, with any chat model that transformers opens.

    python scripts/caption_edits.py out/captions --edits 'data/magicbrush/*.parquet' \\
        --model Qwen/Qwen2.5-VL-7B-Instruct --shard 0 --shards 8
    python scripts/caption_edits.py out/captions --edits data/edits.json \\
        --language_model Qwen/Qwen2.5-7B-Instruct

A vision-language model (--model) describes the source picture, told the instruction so that it
names what will change; then it is shown the edited picture, told both, and describes that. A
language model (--language_model) sees no picture: it rewrites the source captions that the set has.
Either is asked to keep the source caption's words: the two shall differ by the edit alone.

Writes <output>/captions-<shard>-of-<shards>.jsonl, which stage 2 reads as the
`captions` of the entry of these edits. Shards share no row and may run side by side; one that was
stopped goes on when it is started again.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from PIL import Image
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    PreTrainedModel,
)

from mllm.answerer import Answerer, Question, TextAnswerer
from scripts.edit_shard import Row, Shard, add_arguments
from vision_tower.edits import Edits

logger = logging.getLogger("caption_edits")

SOURCE_PROMPT = (
    'This picture will be edited by the instruction "{instruction}". Describe the picture as it is '
    "now, in one sentence that names what the instruction is about. Answer with the sentence alone."
)
EDITED_PROMPT = (
    'A picture was described as: "{caption}" Then it was edited by the instruction '
    '"{instruction}". Describe the edited picture in one sentence: keep the words of the '
    "description, and change only what the edit changed. Answer with the sentence alone."
)

BY_HAND = "Write its line into the output by hand, and run again."

Ask = Callable[[Sequence[Question]], list[str]]
Captions = list[tuple[str, str]]
Caption = Callable[[Edits, Sequence[int], Ask], Captions]


def describe(edits: Edits, rows: Sequence[int], ask: Ask) -> Captions:
    """(source, target) captions of pairs, by a model that is shown their pictures."""
    pairs = [edits[row] for row in rows]
    told = [_require_instruction(pair.instruction, pair.row) for pair in pairs]
    prompts = [SOURCE_PROMPT.format(instruction=instruction) for instruction in told]
    sources = ask([(pair.source_image, text) for pair, text in zip(pairs, prompts, strict=True)])
    return _with_targets(sources, told, [pair.edited_image for pair in pairs], ask)


def rewrite(edits: Edits, rows: Sequence[int], ask: Ask) -> Captions:
    """(source, target) captions of pairs that have the first; no picture is decoded."""
    pairs = [edits.stored(row) for row in rows]
    told = [_require_instruction(pair.instruction, where) for where, _, pair in pairs]
    for where, _, pair in pairs:
        if not pair.source_caption:
            raise ValueError(f"{where} has no source caption to rewrite: give a --model that sees.")
    return _with_targets([pair.source_caption for *_, pair in pairs], told, [None] * len(told), ask)


def _require_instruction(instruction: str, where: str) -> str:
    if not instruction:
        raise ValueError(f"{where} has no instruction. {BY_HAND}")
    return instruction


def _with_targets(
    sources: Sequence[str],
    told: Sequence[str],
    pictures: Sequence[Image.Image | None],
    ask: Ask,
) -> Captions:
    prompts = [
        EDITED_PROMPT.format(caption=source, instruction=instruction)
        for source, instruction in zip(sources, told, strict=True)
    ]
    return list(zip(sources, ask(list(zip(pictures, prompts, strict=True))), strict=True))


def answers(
    answerer: Answerer, max_new_tokens: int, ids: Sequence[str], questions: Sequence[Question]
) -> list[str]:
    """One line for each of the questions, which are about the pairs `ids`.

    Raises:
        RuntimeError: the model failed; names the pairs.
        ValueError: an answer is empty; names the pair.
    """
    try:
        texts = answerer.answer_batch(questions, max_new_tokens=max_new_tokens)
    except Exception as error:
        raise RuntimeError(
            f"the model failed on the rows {', '.join(ids)} ({type(error).__name__}: {error}). "
            "Captions so far are kept; a smaller --batch_size takes less memory, 1 finds the row."
        ) from error
    lines = [" ".join(text.split()) for text in texts]
    for told_by, line in zip(ids, lines, strict=True):
        if not line:
            raise ValueError(f"{told_by}: the model says nothing about this pair. {BY_HAND}")
    return lines


def open_model(name: str, shard: int) -> Answerer:
    """A vision-language model and its processor, on the GPU (bf16) if there is one (else fp32)."""
    model = _opened(AutoModelForImageTextToText, name, "vision-language model", shard)
    processor = AutoProcessor.from_pretrained(name)
    return Answerer(model, processor, processor.tokenizer)


def open_language_model(name: str, shard: int) -> TextAnswerer:
    """A language model and its tokenizer, placed alike."""
    model = _opened(AutoModelForCausalLM, name, "language model", shard)
    return TextAnswerer(model, AutoTokenizer.from_pretrained(name))


def _opened(auto: type, name: str, kind: str, shard: int) -> PreTrainedModel:
    place = ("cpu", torch.float32)
    if torch.cuda.is_available():  # shards that run side by side on one machine share its GPUs
        place = (f"cuda:{shard % torch.cuda.device_count()}", torch.bfloat16)
    try:
        return auto.from_pretrained(name, device_map=place[0], dtype=place[1])
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]  # a list of all classes may follow
        raise ValueError(
            f"{name} cannot be opened as a {kind} ({reason}). Check the name; --model takes "
            "vision-language models, --language_model those that see nothing."
        ) from error


def caption_shard(
    shard: Shard, caption: Caption, answerer: Answerer, arguments: argparse.Namespace
) -> None:
    """Write the shard's captions, and say of how many pairs both are the same."""

    def work(pending: Sequence[int]) -> Iterator[list[Row]]:
        for start in range(0, len(pending), shard.batch_size):
            batch = pending[start : start + shard.batch_size]
            ids = [shard.ids[row] for row in batch]
            ask = partial(answers, answerer, arguments.max_new_tokens, ids)
            yield [
                {"id": told_by, "source_caption": source, "target_caption": target}
                for told_by, (source, target) in zip(
                    ids, caption(shard.edits, batch, ask), strict=True
                )
            ]

    path = arguments.output / f"captions-{shard.name}.jsonl"
    made_by = {
        "model": arguments.model or arguments.language_model,
        "prompts": [SOURCE_PROMPT, EDITED_PROMPT],
        "max_new_tokens": arguments.max_new_tokens,
    }
    rows = shard.grow(path, made_by, work).values()
    same = sum(row["source_caption"] == row["target_caption"] for row in rows)
    logger.info("%s: captions of %d pairs, of %d both the same.", path, len(rows), same)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add_arguments(parser, batch_size=16)
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--model", help="vision-language model: directory or hub id")
    model.add_argument("--language_model", help="language model: directory or hub id")
    parser.add_argument("--max_new_tokens", type=int, default=96, help="a caption's bound (96)")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        shard = Shard(Edits(arguments.edits, captions_required=False), arguments)
        if arguments.model:
            caption_shard(shard, describe, open_model(arguments.model, arguments.shard), arguments)
        else:
            answerer = open_language_model(arguments.language_model, arguments.shard)
            caption_shard(shard, rewrite, answerer, arguments)
    except (OSError, ValueError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
