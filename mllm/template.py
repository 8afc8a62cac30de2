"""The one chat template of a checkpoint, for `{% generation %}` masks and for every consumer.

It is stored on tokenizer and processor alike, so nobody chooses a template. Its strings are the
language model's own (`mllm.turns`); one without a template gets Vicuna v1.1's. The generation spans
mark what the model learns: the answer and the token that ends it. Contents may be strings
("<image>\\nQuestion", as lmms-eval sends them) or lists of typed items, whose only picture comes
first; of several, each stands where it is.
"""

from __future__ import annotations

import json
from typing import cast

from transformers import PreTrainedTokenizerBase

from mllm.turns import Turns, derived, opens_with_bos, vicuna

IMAGE_TOKEN = "<image>"
# Tokens that makers of language models keep for such a use, or for any: Qwen, Gemma 3, Llama 3,
# Phi 3, Phi 4, Mistral, Gemma 2. They have embeddings already.
RESERVED = (
    *("<|image_pad|>", "<image_soft_token>", "<|reserved_special_token_0|>", "<|placeholder1|>"),
    *("<|dummy_0|>", "[control_8]", "<unused0>"),
)
VICUNA_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions."
)

_TEMPLATE = """\
{%- set turns = TURNS -%}
{%- macro said(content) -%}
{%- if content is string -%}
{{- content | replace('<image>', turns.image) -}}
{%- else -%}
{%- set pictures = content | rejectattr('type', 'equalto', 'text') | list | length -%}
{%- if pictures == 1 -%}{{- turns.image + '\\n' -}}{%- endif -%}
{%- for item in content -%}
{%- if item['type'] == 'text' -%}
{{- item['text'] -}}
{%- elif item['type'] not in ['image', 'image_url'] -%}
{{- raise_exception("unknown content '" + item['type'] + "': use image and text") -}}
{%- elif pictures > 1 -%}
{{- turns.image + '\\n' -}}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{%- endmacro -%}
{%- for message in messages -%}
{%- if message['role'] == 'user' -%}
{%- if loop.first -%}
{{- turns.opening -}}
{%- elif loop.previtem['role'] != 'system' -%}
{{- turns.between -}}
{%- endif -%}
{{- said(message['content']) -}}
{%- elif message['role'] == 'assistant' -%}
{{- turns.prompt -}}
{%- generation -%}
{{- turns.lead + said(message['content']) + turns.stop -}}
{%- endgeneration -%}
{%- elif message['role'] == 'system' and loop.first and turns.system -%}
{{- turns.system[0] + said(message['content']) + turns.system[1] -}}
{%- else -%}
{{- raise_exception("a turn of the role '" + message['role'] + "' cannot stand here: use " +
("system first, " if turns.system else "") + "user and assistant") -}}
{%- endif -%}
{%- endfor -%}
{{- turns.prompt if add_generation_prompt else '' -}}
"""


def chat_template(turns: Turns, image_token: str) -> str:
    """The jinja text for one checkpoint."""
    told = json.dumps({**turns._asdict(), "image": image_token}, ensure_ascii=False)
    # json's null, between its own marks: no string of the turns can look like it.
    told = told.replace('"system": null,', '"system": none,', 1)
    return _TEMPLATE.replace("TURNS", told, 1)


def prepare_tokenizer(tokenizer: PreTrainedTokenizerBase, system: str | None = None) -> str:
    """Give a language model's tokenizer, in place, what a LLaVA checkpoint needs.

    The picture gets a real token: `<image>` where it exists, else a reserved one, else a new one.
    What ends an answer becomes the end-of-sequence token, a pad token is chosen and the template is
    set. BOS moves from the tokenizer into the template:
    several consumers (vLLM's chat endpoint, `tokenizer.apply_chat_template`) never ask the
    tokenizer for it, others always do, and only a template that says it gives each of them exactly
    one.

    Args:
        tokenizer: of a language model.
        system: the sentence that opens every conversation; None: the language model's own, or
            Vicuna's.

    Returns:
        The picture's token.

    Raises:
        ValueError: no end of an answer is to be found, or no place for `system`.
    """
    if tokenizer.chat_template is None:
        turns = vicuna(tokenizer)
        system = VICUNA_SYSTEM if system is None else system
        turns = turns.opened_with(system) if system else turns
    else:
        turns = derived(tokenizer)
        turns = turns if system is None else turns.opened_with(system)
    if opens_with_bos(tokenizer):
        turns = turns.with_bos(cast("str", tokenizer.bos_token))
        tokenizer.add_bos_token = False
    tokenizer.eos_token_id = tokenizer(turns.stop, add_special_tokens=False).input_ids[-1]
    image_token = _image_token(tokenizer)
    if tokenizer.pad_token is None:
        # Vicuna and Llama have none; LLaVA pads with <unk>. Labels never depend on it.
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
    tokenizer.chat_template = chat_template(turns, image_token)
    return image_token


def _image_token(tokenizer: PreTrainedTokenizerBase) -> str:
    known = {token.content for token in tokenizer.added_tokens_decoder.values()}
    found = next((name for name in (IMAGE_TOKEN, *RESERVED) if name in known), IMAGE_TOKEN)
    tokenizer.add_special_tokens(
        {"extra_special_tokens": [found]}, replace_extra_special_tokens=False
    )
    return found
