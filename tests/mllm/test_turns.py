"""Turns read off the templates of every family, against what they are known to write."""

import pytest
from transformers import AutoTokenizer

from mllm.template import prepare_tokenizer
from mllm.turns import derived
from tests.mllm.families import FAMILIES, Family, alternating, write_tokenizer

TURNS = [
    {"role": "user", "content": "<image>\nwhat"},
    {"role": "assistant", "content": "a circle"},
    {"role": "user", "content": "how many"},
    {"role": "assistant", "content": "one"},
]


@pytest.fixture(scope="module", params=FAMILIES)
def prepared(request, tmp_path_factory):
    """A family, and its tokenizer made ready, saved and opened again."""
    family = FAMILIES[request.param]
    tokenizer = write_tokenizer(family, tmp_path_factory.mktemp("llm"))
    assert prepare_tokenizer(tokenizer) == family.image_token
    directory = tmp_path_factory.mktemp("mllm")
    tokenizer.save_pretrained(directory)
    return family, AutoTokenizer.from_pretrained(directory)


def pieces(family: Family) -> list[str]:
    """Prompt, answer, prompt, answer."""
    return family.conversation.replace("<image>", family.image_token).split("¦")


def test_a_conversation_reads_as_the_family_writes_it(prepared):
    family, tokenizer = prepared
    assert tokenizer.apply_chat_template(TURNS, tokenize=False) == "".join(pieces(family))


def test_answers_and_what_ends_them_are_learned_and_nothing_else(prepared):
    family, tokenizer = prepared
    told = tokenizer.apply_chat_template(
        TURNS, return_dict=True, return_assistant_tokens_mask=True, tokenize=True
    )
    spoken, runs = told["assistant_masks"], []
    for position, token in enumerate(told["input_ids"]):
        if position == 0 or spoken[position] != spoken[position - 1]:
            runs.append([])
        runs[-1].append(token)
    assert [tokenizer.decode(run) for run in runs] == pieces(family)
    assert spoken[0] == 0


def test_it_is_asked_as_it_was_trained(prepared):
    family, tokenizer = prepared
    for turns in (1, 3):
        asked = tokenizer.apply_chat_template(
            TURNS[:turns], tokenize=False, add_generation_prompt=True
        )
        assert asked == "".join(pieces(family)[:turns])
        ids = tokenizer.apply_chat_template(
            TURNS[:turns], add_generation_prompt=True, return_dict=False
        )
        assert tokenizer.apply_chat_template(TURNS, return_dict=False)[: len(ids)] == ids


def test_lists_of_items_read_like_strings(prepared):
    family, tokenizer = prepared
    listed = [
        {"role": "user", "content": [{"type": "text", "text": "what"}, {"type": "image"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "a circle"}]},
        *TURNS[2:],
    ]
    assert tokenizer.apply_chat_template(listed, tokenize=False) == "".join(pieces(family))


def test_a_system_sentence_stands_where_the_family_puts_it(prepared):
    family, tokenizer = prepared
    messages = [{"role": "system", "content": "be brief"}, *TURNS]
    if family.system is None:
        with pytest.raises(Exception, match="the role 'system' cannot stand here: use user and"):
            tokenizer.apply_chat_template(messages, tokenize=False)
        return
    told = tokenizer.apply_chat_template(messages, tokenize=False)
    [first, *others] = pieces(family)
    assert told == "".join([family.system, first[first.index(family.image_token) :], *others])


def test_every_road_gives_the_same_tokens(prepared):
    """As lmms-eval and vLLM go: the text by the template, its tokens by the tokenizer."""
    _, tokenizer = prepared
    text = tokenizer.apply_chat_template(TURNS, tokenize=False)
    assert tokenizer(text).input_ids == tokenizer.apply_chat_template(TURNS, return_dict=False)


def test_the_picture_is_one_token_and_answers_end_with_the_end_token(prepared):
    family, tokenizer = prepared
    assert len(tokenizer(family.image_token).input_ids) == 1
    assert pieces(family)[1].endswith(tokenizer.eos_token)
    assert tokenizer.pad_token is not None


@pytest.mark.parametrize(
    ("assistant", "reason"),
    [
        ("{{ 'A: ' + message['content'] + '.' }}", "no special token ends an answer"),
        ("{{ 'A: ' + message['content'] + '.' * loop.index + '<|im_end|>' }}", "where '....<|im_"),
        ("{{ 'B: ' + message['content'] + '<|im_end|>' }}", "it writes 'B: ' where 'A: ' should"),
        ("{{ 'A: ' * loop.index + message['content'] + '<|im_end|>' }}", "second answer begins"),
        ("{{ 'A: an answer<|im_end|>' }}", "does not show every turn once"),
    ],
)
def test_a_template_that_cannot_be_trained_on_is_refused(assistant, reason, tmp_path):
    tail = "{% if add_generation_prompt %}{{ 'A: ' }}{% endif %}"
    template = alternating("{{ 'Q: ' + message['content'] }}", assistant, tail=tail)
    tokenizer = write_tokenizer(Family(template, ("<|im_end|>",), "", eos="<|im_end|>"), tmp_path)
    with pytest.raises(ValueError, match=f"cannot be trained on.*{reason}.*Vicuna's form"):
        derived(tokenizer)


def test_a_sentence_that_has_no_place_is_refused(tmp_path):
    tokenizer = write_tokenizer(FAMILIES["gemma2"], tmp_path)
    with pytest.raises(ValueError, match="takes no system sentence: leave 'be brief' out"):
        prepare_tokenizer(tokenizer, "be brief")
