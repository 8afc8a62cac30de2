import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoProcessor, AutoTokenizer, PreTrainedTokenizerFast

from mllm.template import chat_template, prepare_tokenizer
from mllm.turns import vicuna
from tests.tiny_llava import picture

TURNS = [
    {"role": "user", "content": "<image>\nwhat"},
    {"role": "assistant", "content": "a circle"},
    {"role": "user", "content": "how many"},
    {"role": "assistant", "content": "one"},
]
# Written by hand after LLaVA's conversation.py, `vicuna_v1` (sep " ", sep2 "</s>").
RENDERED = (
    "<s>be brief USER: <image>\nwhat ASSISTANT: a circle</s>USER: how many ASSISTANT: one</s>"
)


def test_the_rendered_text_is_vicunas(llava):
    processor = AutoProcessor.from_pretrained(llava)
    assert processor.apply_chat_template(TURNS) == RENDERED
    assert processor.tokenizer.apply_chat_template(TURNS, tokenize=False) == RENDERED


def test_list_contents_render_like_strings(llava):
    tokenizer = AutoTokenizer.from_pretrained(llava)
    listed = [
        {"role": "user", "content": [{"type": "text", "text": "what"}, {"type": "image"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "a circle"}]},
        *TURNS[2:],
    ]
    assert tokenizer.apply_chat_template(listed, tokenize=False) == RENDERED


def test_the_prompt_is_a_prefix_of_what_was_trained(llava):
    tokenizer = AutoTokenizer.from_pretrained(llava)
    prompt = tokenizer.apply_chat_template(TURNS[:3], tokenize=False, add_generation_prompt=True)
    assert prompt == RENDERED[: RENDERED.index(" one</s>")]
    ids = tokenizer.apply_chat_template(TURNS[:3], add_generation_prompt=True, return_dict=False)
    whole = tokenizer.apply_chat_template(TURNS, return_dict=False)
    assert whole[: len(ids)] == ids


def test_a_system_message_replaces_the_stored_sentence(llava):
    tokenizer = AutoTokenizer.from_pretrained(llava)
    text = tokenizer.apply_chat_template(
        [{"role": "system", "content": "sing"}, TURNS[0]], tokenize=False
    )
    assert text == "<s>sing USER: <image>\nwhat"


def test_an_unknown_role_is_refused(llava):
    tokenizer = AutoTokenizer.from_pretrained(llava)
    with pytest.raises(Exception, match="'tool' cannot stand here: use system first, user and"):
        tokenizer.apply_chat_template([{"role": "tool", "content": "x"}], tokenize=False)


def test_a_system_sentence_with_quotes_and_our_own_words_survives():
    sentence = 'It\'s "BOS\n" {{ turns }} TURNS "system": null, é'
    tokenizer = _byte_level_tokenizer()
    tokenizer.chat_template = chat_template(
        vicuna(tokenizer).opened_with(sentence).with_bos("<|bos|>"), "<image>"
    )
    text = tokenizer.apply_chat_template([{"role": "user", "content": "q"}], tokenize=False)
    assert text == f"<|bos|>{sentence} USER: q"


def test_of_several_pictures_each_stands_where_it_is(llava):
    tokenizer = AutoTokenizer.from_pretrained(llava)
    content = [
        {"type": "text", "text": "is "},
        {"type": "image"},
        {"type": "text", "text": "like "},
        {"type": "image_url", "image_url": {"url": "x"}},
    ]
    text = tokenizer.apply_chat_template([{"role": "user", "content": content}], tokenize=False)
    assert text == "<s>be brief USER: is <image>\nlike <image>\n"


def test_content_of_an_unknown_kind_is_refused(llava):
    tokenizer = AutoTokenizer.from_pretrained(llava)
    with pytest.raises(Exception, match="unknown content 'audio': use image and text"):
        tokenizer.apply_chat_template([{"role": "user", "content": [{"type": "audio"}]}])


def test_every_road_gives_exactly_one_bos(llava):
    processor = AutoProcessor.from_pretrained(llava)
    question = [{"role": "user", "content": [{"type": "image", "image": picture(0)}]}]
    by_processor = processor.apply_chat_template(
        question, tokenize=True, return_dict=True, return_tensors="pt", add_generation_prompt=True
    )["input_ids"][0].tolist()
    text = processor.tokenizer.apply_chat_template(
        [{"role": "user", "content": "<image>\n"}], tokenize=False, add_generation_prompt=True
    )
    as_lmms_eval = processor(images=picture(0), text=text, return_tensors="pt")["input_ids"][0]
    assert by_processor == as_lmms_eval.tolist()
    assert by_processor.count(processor.tokenizer.bos_token_id) == 1


def _byte_level_tokenizer(bos: bool = True, eos: str | None = "<|eos|>") -> PreTrainedTokenizerFast:
    """Llama-3's kind: byte-level BPE, BOS by a post-processor."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|bos|>", "<|eos|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    core.train_from_iterator(["what is that"], trainer)
    if bos:
        core.post_processor = processors.TemplateProcessing(
            single="<|bos|> $A", special_tokens=[("<|bos|>", 0)]
        )
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<|bos|>", eos_token=eos)


@pytest.mark.parametrize("bos", [True, False])
def test_a_byte_level_tokenizer_keeps_its_bos_habit(bos, tmp_path):
    tokenizer = _byte_level_tokenizer(bos)
    prepare_tokenizer(tokenizer, "")
    tokenizer.save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    message = [{"role": "user", "content": "what is"}]
    text = tokenizer.apply_chat_template(message, tokenize=False)
    assert text == ("<|bos|>" if bos else "") + "USER: what is"
    assert tokenizer(text).input_ids == tokenizer.apply_chat_template(message, return_dict=False)
    assert tokenizer(text).input_ids.count(0) == bos
    assert tokenizer.pad_token == "<|eos|>"
    assert len(tokenizer("<image>").input_ids) == 1


def test_a_tokenizer_without_an_end_is_refused():
    with pytest.raises(ValueError, match="no eos_token"):
        prepare_tokenizer(_byte_level_tokenizer(eos=None), "")
