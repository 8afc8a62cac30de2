"""Tokenizers in the form of each family of language models: how they cut words, which special
tokens they bring, whether they open with BOS, and the turns of their published chat template."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

CORPUS = ["what is in the picture how many circle square a red one", "WHAT IS IN THE PICTURE"] * 9


@dataclass(frozen=True)
class Family:
    """`conversation` is what two turns read: prompt ¦ what is learned ¦ and so on."""

    template: str
    special: tuple[str, ...]
    conversation: str
    eos: str
    bos: str | None = None
    adds_bos: bool = False
    metaspace: bool = False  # sentencepiece's way of writing spaces; byte-level BPE otherwise
    image_token: str = "<image>"
    system: str | None = None  # how "be brief" opens the conversation


def write_tokenizer(family: Family, directory: Path) -> PreTrainedTokenizerBase:
    core = Tokenizer(models.BPE(byte_fallback=family.metaspace))
    if family.metaspace:
        core.normalizer = normalizers.Replace(" ", "▁")
        core.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse()])
        alphabet = sorted({letter for text in CORPUS for letter in text} | set("▁\n[]/<>:.,SYQ"))
    else:
        core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        core.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=list(family.special), initial_alphabet=alphabet,
        show_progress=False,
    )  # fmt: skip
    core.train_from_iterator(CORPUS, trainer)
    if family.adds_bos:
        core.post_processor = processors.TemplateProcessing(
            single=f"{family.bos} $A", special_tokens=[(family.bos, core.token_to_id(family.bos))]
        )
    made = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token=family.bos, eos_token=family.eos
    )
    made.chat_template = family.template
    made.save_pretrained(directory)
    return AutoTokenizer.from_pretrained(directory)


def alternating(user: str, assistant: str, opening: str = "", tail: str = "") -> str:
    """A template that writes every message the same way."""
    return (
        f"{opening}{{% for message in messages %}}{{% if message['role'] == 'user' %}}{user}"
        f"{{% elif message['role'] == 'assistant' %}}{assistant}{{% else %}}"
        "{{ raise_exception('System role not supported') }}"
        f"{{% endif %}}{{% endfor %}}{tail}"
    )


CHATML_TURNS = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content']"
    " + '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
QWEN = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nYou are Qwen, created by "
    "Alibaba Cloud. You are a helpful assistant.<|im_end|>\\n' }}{% endif %}" + CHATML_TURNS
)
# Thoughts are written into the last answer alone; asked to leave them out, it opens empty ones.
QWEN3 = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{% if message['role'] == 'assistant' and loop.last %}{{ '<think>\\n\\n</think>\\n\\n' }}"
    "{% endif %}{{ message['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% if enable_thinking is defined"
    " and enable_thinking is false %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content']"
    " | trim %}{% set messages = messages[1:] %}{% else %}{% set system = '' %}{% endif %}"
    "{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
    "{{ '<|start_header_id|>system<|end_header_id|>\\n\\nToday Date: ' + date_string + '\\n\\n' +"
    " system + '<|eot_id|>' }}{% for message in messages %}{{ '<|start_header_id|>' +"
    " message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}"
    "{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)
LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}{% set system ="
    " messages[0]['content'] %}{% else %}{% set rest = messages %}{% set system = false %}"
    "{% endif %}{% for message in rest %}{% if (message['role'] == 'user') != (loop.index0 % 2 =="
    " 0) %}{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
    "{% if loop.index0 == 0 and system %}{% set content = '<<SYS>>\\n' + system +"
    " '\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}{% set content = message['content'] %}"
    "{% endif %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() +"
    " ' [/INST]' }}{% else %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
# The system sentence stands before the last question.
MISTRAL = (
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}"
    "{% set messages = messages[1:] %}{% endif %}{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'user' %}{% if loop.last and system is defined %}{{ '[INST] ' +"
    " system + '\\n\\n' + message['content'] + '[/INST]' }}{% else %}"
    "{{ '[INST] ' + message['content'] + '[/INST]' }}{% endif %}"
    "{% else %}{{ ' ' + message['content'] | trim + eos_token }}{% endif %}"
    "{% endfor %}"
)
PHI3 = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>\\n' + message['content'] +"
    " '<|end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}"
    "{{ eos_token }}{% endif %}"
)
PHI4 = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '<|im_sep|>' +"
    " message['content'] + '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant<|im_sep|>' }}{% endif %}"
)
GEMMA2 = alternating(
    "{{ '<start_of_turn>user\\n' + message['content'] | trim + '<end_of_turn>\\n' }}",
    "{{ '<start_of_turn>model\\n' + message['content'] | trim + '<end_of_turn>\\n' }}",
    "{{ bos_token }}",
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}",
)
GEMMA3 = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set before = messages[0]['content']"
    " + '\\n\\n' %}{% set messages = messages[1:] %}{% else %}{% set before = '' %}{% endif %}"
    "{% for message in messages %}{% set role = 'model' if message['role'] == 'assistant' else"
    " message['role'] %}{{ '<start_of_turn>' + role + '\\n' + (before if loop.first else '') +"
    " message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)
CHATML = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
GEMMA = {
    "bos": "<bos>", "eos": "<eos>", "adds_bos": True, "metaspace": True,
    "conversation": (
        "<bos><start_of_turn>user\n<image>\nwhat<end_of_turn>\n<start_of_turn>model\n"
        "¦a circle<end_of_turn>¦\n<start_of_turn>user\nhow many<end_of_turn>\n"
        "<start_of_turn>model\n¦one<end_of_turn>"
    ),
}  # fmt: skip

FAMILIES = {
    "llama2": Family(
        LLAMA2, ("<unk>", "<s>", "</s>"),
        "<s>[INST] <image>\nwhat [/INST]¦ a circle </s>¦<s>[INST] how many [/INST]¦ one </s>",
        eos="</s>", bos="<s>", adds_bos=True, metaspace=True,
        system="<s>[INST] <<SYS>>\nbe brief\n<</SYS>>\n\n",
    ),
    "llama3": Family(
        LLAMA3,
        ("<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>",
         "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nToday Date: 26 Jul 2024\n\n"
        "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n<image>\nwhat<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n¦a circle<|eot_id|>¦<|start_header_id|>"
        "user<|end_header_id|>\n\nhow many<|eot_id|><|start_header_id|>assistant<|end_header_id|>"
        "\n\n¦one<|eot_id|>",
        eos="<|eot_id|>", bos="<|begin_of_text|>", adds_bos=True,
        image_token="<|reserved_special_token_0|>",
        system="<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nToday Date: "
        "26 Jul 2024\n\nbe brief<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n",
    ),
    "mistral": Family(
        MISTRAL, ("<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[control_8]"),
        "<s>[INST] <image>\nwhat[/INST]¦ a circle</s>¦[INST] how many[/INST]¦ one</s>",
        eos="</s>", bos="<s>", adds_bos=True, metaspace=True, image_token="[control_8]",
        system="<s>[INST] be brief\n\n",
    ),
    "qwen2": Family(
        QWEN, CHATML,
        "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant."
        "<|im_end|>\n<|im_start|>user\n<image>\nwhat<|im_end|>\n<|im_start|>assistant\n"
        "¦a circle<|im_end|>¦\n<|im_start|>user\nhow many<|im_end|>\n<|im_start|>assistant\n"
        "¦one<|im_end|>",
        eos="<|im_end|>", system="<|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\n",
    ),
    "qwen3": Family(
        QWEN3, (*CHATML, "<|image_pad|>"),
        "<|im_start|>user\n<image>\nwhat<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
        "¦a circle<|im_end|>¦\n<|im_start|>user\nhow many<|im_end|>\n<|im_start|>assistant\n"
        "<think>\n\n</think>\n\n¦one<|im_end|>",
        eos="<|im_end|>", image_token="<|image_pad|>",
        system="<|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\n",
    ),
    "smollm2": Family(
        CHATML_TURNS, CHATML,
        "<|im_start|>user\n<image>\nwhat<|im_end|>\n<|im_start|>assistant\n¦a circle<|im_end|>¦\n"
        "<|im_start|>user\nhow many<|im_end|>\n<|im_start|>assistant\n¦one<|im_end|>",
        eos="<|im_end|>", system="<|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\n",
    ),
    "phi3": Family(
        PHI3,
        ("<unk>", "<s>", "<|endoftext|>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>",
         "<|placeholder1|>"),
        "<|user|>\n<image>\nwhat<|end|>\n<|assistant|>\n¦a circle<|end|>¦\n<|user|>\nhow many"
        "<|end|>\n<|assistant|>\n¦one<|end|>",
        eos="<|endoftext|>", bos="<s>", metaspace=True, image_token="<|placeholder1|>",
        system="<|system|>\nbe brief<|end|>\n<|user|>\n",
    ),
    "phi4": Family(
        PHI4, (*CHATML, "<|im_sep|>", "<|dummy_0|>"),
        "<|im_start|>user<|im_sep|><image>\nwhat<|im_end|><|im_start|>assistant<|im_sep|>"
        "¦a circle<|im_end|>¦<|im_start|>user<|im_sep|>how many<|im_end|><|im_start|>assistant"
        "<|im_sep|>¦one<|im_end|>",
        eos="<|im_end|>", bos="<|endoftext|>", image_token="<|dummy_0|>",
        system="<|im_start|>system<|im_sep|>be brief<|im_end|><|im_start|>user<|im_sep|>",
    ),
    "gemma2": Family(
        GEMMA2, ("<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>", "<unused0>"),
        **GEMMA, image_token="<unused0>", system=None,
    ),
    "gemma3": Family(
        GEMMA3, ("<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>",
                 "<image_soft_token>"),
        **GEMMA, image_token="<image_soft_token>", system="<bos><start_of_turn>user\nbe brief\n\n",
    ),
}  # fmt: skip
