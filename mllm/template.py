"""The one chat template: Vicuna v1.1's form, as LLaVA-1.5 trained on it.

    <s>SYSTEM USER: <image>\\nQUESTION ASSISTANT: ANSWER</s>USER: QUESTION ASSISTANT: ANSWER</s>

It is stored in the checkpoint, on tokenizer and processor alike, so no consumer chooses a
template. The `{% generation %}` spans mark what the model learns: the answer, its leading space
and the end token. Contents may be strings ("<image>\\nQuestion", as lmms-eval sends them) or
lists of typed items.
"""

from __future__ import annotations

import json

from transformers import PreTrainedTokenizerBase

IMAGE_TOKEN = "<image>"
VICUNA_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions."
)

_TEMPLATE = """\
{%- set system = SYSTEM -%}
{%- if messages[0]['role'] == 'system' -%}
{%- if messages[0]['content'] is string -%}
{%- set system = messages[0]['content'] -%}
{%- else -%}
{%- set system = messages[0]['content'] | map(attribute='text') | join -%}
{%- endif -%}
{%- endif -%}
BOS
{{- system + ' ' if system else '' -}}
{%- for message in messages -%}
{%- if message['role'] == 'user' -%}
{{- 'USER: ' -}}
{%- if message['content'] is string -%}
{{- message['content'] -}}
{%- else -%}
{%- for item in message['content'] if item['type'] in ['image', 'image_url'] -%}
{{- 'IMAGE\\n' -}}
{%- endfor -%}
{%- for item in message['content'] if item['type'] == 'text' -%}
{{- item['text'] -}}
{%- endfor -%}
{%- endif -%}
{{- ' ' -}}
{%- elif message['role'] == 'assistant' -%}
{{- 'ASSISTANT:' -}}
{%- generation -%}
{{- ' ' -}}
{%- if message['content'] is string -%}
{{- message['content'] -}}
{%- else -%}
{{- message['content'] | map(attribute='text') | join -}}
{%- endif -%}
{{- eos_token -}}
{%- endgeneration -%}
{%- elif message['role'] != 'system' -%}
{{- raise_exception("unknown role '" + message['role'] + "': use system, user or assistant") -}}
{%- endif -%}
{%- endfor -%}
{{- 'ASSISTANT:' if add_generation_prompt else '' -}}
"""


def chat_template(system: str, bos: bool) -> str:
    """The jinja text for one checkpoint: its system sentence ("" for none) and whether it opens
    with BOS."""
    # The system sentence last: it may hold any word.
    template = _TEMPLATE.replace("IMAGE", IMAGE_TOKEN, 1)
    template = template.replace("BOS\n", "{{- bos_token -}}\n" if bos else "", 1)
    return template.replace("SYSTEM", json.dumps(system, ensure_ascii=False), 1)


def prepare_tokenizer(tokenizer: PreTrainedTokenizerBase, system: str) -> None:
    """Give a language model's tokenizer, in place, what a LLaVA checkpoint needs.

    `<image>` becomes a real token (kept where it exists), a pad token is chosen and the template
    is set. BOS moves from the tokenizer into the template: several consumers (vLLM's chat
    endpoint, `tokenizer.apply_chat_template`) never ask the tokenizer for it, others always do,
    and only a template that says it gives each of them exactly one.

    Raises:
        ValueError: the tokenizer has no end-of-sequence token, so an answer could never end.
    """
    if tokenizer.eos_token is None:
        raise ValueError(
            f"the tokenizer of {tokenizer.name_or_path} has no eos_token: set one in its "
            "tokenizer_config.json, the end of an answer is learned from it"
        )
    tokenizer.add_special_tokens(
        {"extra_special_tokens": [IMAGE_TOKEN]}, replace_extra_special_tokens=False
    )
    if tokenizer.pad_token is None:
        # Vicuna and Llama have none; LLaVA pads with <unk>. Labels never depend on it.
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
    opens_with_bos = tokenizer("a").input_ids[0] == tokenizer.bos_token_id
    if opens_with_bos:
        tokenizer.add_bos_token = False
    tokenizer.chat_template = chat_template(system, bos=opens_with_bos)
