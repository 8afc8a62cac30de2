"""What a language model writes around the contents of a conversation, read off its own template.

Templates of language models are programs that anyone may have written; none of them marks what is
an answer. Rendered around words that stand for themselves, each of them shows the few strings it is
made of, and those are all that training and chatting need.
"""

from __future__ import annotations

from typing import NamedTuple, cast

from jinja2.exceptions import TemplateError
from transformers import PreTrainedTokenizerBase

_SYSTEM, _ASKED, _ANSWERED = "SystemSentence", ("QuestionA", "QuestionB"), ("AnswerA", "AnswerB")
# What templates take besides messages. Llama 3 writes the date into each conversation, which would
# be that of the assembling; this is the one it falls back to itself.
_SETTINGS = {"enable_thinking": False, "date_string": "26 Jul 2024"}


class Turns(NamedTuple):
    """The strings of a conversation but for its contents:

    opening QUESTION prompt | lead ANSWER stop | between QUESTION prompt | lead ANSWER stop |

    What stands between bars after a prompt is what the model itself writes, and learns. `system` is
    before and after a system sentence, which with them takes the place of `opening`; None: the
    language model knows no such sentence.
    """

    opening: str
    system: tuple[str, str] | None
    prompt: str
    lead: str
    stop: str
    between: str

    def opened_with(self, sentence: str) -> Turns:
        """Every conversation begins with this system sentence.

        Raises ValueError if the language model has no place for one.
        """
        if self.system is None:
            raise ValueError(
                f"the language model's template takes no system sentence: leave {sentence!r} out."
            )
        return self._replace(opening=sentence.join(self.system))

    def with_bos(self, bos: str) -> Turns:
        """Every conversation begins with this token, once: templates that leave it to the tokenizer
        do not write it."""
        system = self.system and (bos + self.system[0].removeprefix(bos), self.system[1])
        return self._replace(opening=bos + self.opening.removeprefix(bos), system=system)


def vicuna(tokenizer: PreTrainedTokenizerBase) -> Turns:
    """Vicuna v1.1's, as LLaVA-1.5 trained on it:

    <s>SYSTEM USER: <image>\\nQUESTION ASSISTANT: ANSWER</s>USER: QUESTION ASSISTANT: ANSWER</s>

    Raises ValueError if there is no end-of-sequence token, so that an answer could never end.
    """
    if tokenizer.eos_token is None:
        raise ValueError(
            f"the tokenizer of {tokenizer.name_or_path} has no eos_token: set one in its "
            "tokenizer_config.json, the end of an answer is learned from it"
        )
    return Turns(
        opening="USER: ",
        system=("", " USER: "),
        prompt=" ASSISTANT:",
        lead=" ",
        stop=cast("str", tokenizer.eos_token),
        between="USER: ",
    )


def opens_with_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    return tokenizer("a").input_ids[0] == tokenizer.bos_token_id


def derived(tokenizer: PreTrainedTokenizerBase) -> Turns:
    """The turns of a tokenizer's own chat template.

    Thinking, where a template can leave it out, is left out: an answer begins at once, in all turns
    alike, so that every turn is trained as it is asked.

    Raises ValueError if the template is not made of such turns, as one that writes later answers
    otherwise than earlier ones.
    """
    messages = [
        {"role": role, "content": words}
        for pair in zip(_ASKED, _ANSWERED, strict=True)
        for role, words in zip(("user", "assistant"), pair, strict=True)
    ]
    try:
        whole = _rendered(tokenizer, messages)
        opening, answering, after, again, closing = _cut(
            whole, [_ASKED[0], _ANSWERED[0], _ASKED[1], _ANSWERED[1]]
        )
        _, prompt = _cut(_rendered(tokenizer, messages[:1], asks=True), [_ASKED[0]])
        lead = "" if prompt.startswith(answering) else _after(prompt, answering)
        stop = _stop(tokenizer, closing)
        between = _after(stop, after)
        if again not in (answering, prompt + lead):
            raise ValueError("the second answer begins otherwise than the first")
    except (TemplateError, ValueError) as error:
        raise ValueError(
            f"the chat template of {tokenizer.name_or_path} cannot be trained on ({error}): mend "
            "it, or remove it to train in Vicuna's form."
        ) from error
    return Turns(opening, _around_system(tokenizer, messages[0]), prompt, lead, stop, between)


def _rendered(
    tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]], asks: bool = False
) -> str:
    told = tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=asks, **_SETTINGS
    )
    return cast("str", told)


def _cut(text: str, words: list[str]) -> list[str]:
    """The strings before, between and after words that a text holds once each, in this order."""
    parts = []
    for word in words:
        part, found, text = text.partition(word)
        if not found or word in text:
            raise ValueError(f"it does not show every turn once, in order; {word} for one")
        parts.append(part)
    return [*parts, text]


def _after(start: str, text: str) -> str:
    if not text.startswith(start):
        raise ValueError(f"it writes {text!r} where {start!r} should begin")
    return text.removeprefix(start)


def _stop(tokenizer: PreTrainedTokenizerBase, closing: str) -> str:
    """What follows an answer, up to the first special token."""
    tokens = tokenizer.added_tokens_decoder.values()
    ends = [
        closing.index(token.content) + len(token.content)
        for token in tokens
        if token.special and token.content in closing
    ]
    if not ends:
        raise ValueError(f"no special token ends an answer, only {closing!r}")
    return closing[: min(ends)]


def _around_system(
    tokenizer: PreTrainedTokenizerBase, question: dict[str, str]
) -> tuple[str, str] | None:
    system = {"role": "system", "content": _SYSTEM}
    try:
        told = _rendered(tokenizer, [system, question])
        before, after, _ = _cut(told, [_SYSTEM, question["content"]])
    except (TemplateError, ValueError):
        return None
    return before, after
