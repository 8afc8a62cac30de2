import copy
import json

import pytest
import torch
from torch.nn import functional
from transformers import AutoProcessor, LlavaForConditionalGeneration

from mllm.collate import Collator
from mllm.conversation_files import Conversations
from mllm.conversations import Conversation, ConversationError
from mllm.packs import OpenedRow, OpenedRows
from mllm.processor import build_processor, image_token_count
from tests.mllm.families import FAMILIES, write_tokenizer
from tests.tiny_llava import example_rows, row, write_rows


def opened(folder, *data):
    (folder / "more.json").write_text(json.dumps(data))
    rows = Conversations([folder / "more.json"])
    return list(OpenedRows(rows))


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    write_rows(folder, example_rows())
    return opened(folder, *example_rows())


@pytest.fixture(scope="module")
def row_of_two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    write_rows(folder, example_rows(2))
    talk = row("two", None, "is <image> like <image> what", "no", "how many", "two")
    return opened(folder, {**talk, "image": ["0.png", "1.png"]})[0]


@pytest.fixture(scope="module", params=["clip", "siglip"])
def model_and_processor(request, llava, siglip_llava):
    directory = llava if request.param == "clip" else siglip_llava
    model = LlavaForConditionalGeneration.from_pretrained(directory)
    return model, AutoProcessor.from_pretrained(directory)


@pytest.fixture
def collator(model_and_processor):
    model, processor = model_and_processor
    return Collator(processor, image_token_count(model.config), max_length=256)


def each_alone(rows):
    return [[entry] for entry in rows]


def forward(model, batch):
    return model(**{name: value for name, value in batch.items() if name != "row_ids"})


def test_tokens_and_labels_equal_the_processors_own(collator, rows):
    """The placeholder is expanded after tokenising here, before it in the processor."""
    for entry in rows:
        batch = collator([[entry]])
        messages = copy.deepcopy(entry.conversation.messages)
        if entry.pictures:
            messages[0]["content"][0]["image"] = entry.pictures[0]
        expected = collator.processor.apply_chat_template(
            [messages],
            tokenize=True,
            return_dict=True,
            return_assistant_tokens_mask=True,
            return_tensors="pt",
        )
        length = expected["input_ids"].shape[1]
        assert torch.equal(batch["input_ids"][:, :length], expected["input_ids"])
        spoken = torch.as_tensor(expected["assistant_masks"]).bool()
        labels = expected["input_ids"].masked_fill(~spoken, -100)
        assert torch.equal(batch["labels"][:, :length], labels)
        assert (batch["labels"][:, length:] == -100).all()
        if entry.pictures:
            assert torch.equal(batch["pixel_values"], expected["pixel_values"])


def test_several_pictures_of_a_row_are_read_where_they_stand(collator, row_of_two):
    batch = collator([[row_of_two]])
    text = collator.processor.apply_chat_template(row_of_two.conversation.messages)
    expected = collator.processor(images=row_of_two.pictures, text=text, return_tensors="pt")
    assert torch.equal(batch["input_ids"], expected["input_ids"])
    assert torch.equal(batch["pixel_values"], expected["pixel_values"])
    labels = batch["labels"][0]
    assert collator.processor.tokenizer.decode(labels[labels != -100]) == "no</s> two</s>"


def test_exactly_the_answers_and_their_ends_are_learned(collator, rows):
    labels = collator([rows[:1]])["labels"][0]
    learned = collator.processor.tokenizer.decode(labels[labels != -100])
    assert learned == "a red circle</s> one</s>"


def test_rows_stand_end_to_end_and_positions_begin_anew(collator, rows):
    batch = collator([rows[:3], rows[3:4]])
    lengths = [len(one.labels) for one in collator.encode([one.conversation for one in rows[:4]])]
    assert len(set(lengths)) > 1
    assert batch["row_lengths"] == lengths
    assert batch["position_ids"].tolist() == [[at for length in lengths for at in range(length)]]
    assert batch["input_ids"].shape == batch["labels"].shape == (1, sum(lengths))
    assert len(batch["pixel_values"]) == 3
    assert len(batch["row_ids"]) == 4


def padded(collator, rows):
    """The rows as everybody else's collators make them: one each, masked on the right."""
    encoded = collator.encode([one.conversation for one in rows])
    longest = max(len(one.labels) for one in encoded)

    def stacked(lists, filler):
        return torch.tensor([[*values, *[filler] * (longest - len(values))] for values in lists])

    return {
        "input_ids": stacked([one.input_ids for one in encoded], 0),
        "attention_mask": stacked([[1] * len(one.labels) for one in encoded], 0),
        "labels": stacked([one.labels for one in encoded], -100),
        "pixel_values": collator(each_alone(rows))["pixel_values"],
    }


@pytest.mark.parametrize("attention", ["rows", "sdpa", "eager"])
def test_rows_learn_together_what_they_learn_alone(
    attention, model_and_processor, collator, rows, row_of_two
):
    """Loss and every gradient, with pictures, several of them, and text alone."""
    model, _ = model_and_processor
    some = [*rows[:15], row_of_two]
    expected = padded(collator, some)
    model.set_attn_implementation({"text_config": "sdpa"})
    model.zero_grad()
    logits = model(**expected).logits
    by_hand = functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), expected["labels"][:, 1:].flatten(), ignore_index=-100
    )
    by_hand.backward()
    gradient = {name: one.grad.clone() for name, one in learning(model)}

    model.set_attn_implementation({"text_config": attention})
    model.zero_grad()
    told = forward(model, collator([some[:5], some[5:]]))
    assert told.logits.shape[1] == (expected["labels"] != -100).sum()
    torch.testing.assert_close(told.loss, by_hand)
    told.loss.backward()
    for name, one in learning(model):
        torch.testing.assert_close(one.grad, gradient[name], atol=1e-5, rtol=1e-5)


def learning(model):
    found = [(name, one) for name, one in model.named_parameters() if one.grad is not None]
    assert any("vision_tower" in name for name, _ in found)
    assert any("projector" in name for name, _ in found)
    return found


@pytest.mark.parametrize("attention", ["rows", "sdpa"])
def test_a_neighbour_changes_nothing(attention, model_and_processor, collator, rows):
    """Not a bit of a row's logits: neither the row before it nor the one behind."""
    model, _ = model_and_processor
    model.set_attn_implementation({"text_config": attention})
    entry, words = rows[0], rows[3].conversation
    changed = [{"role": "user", "content": "square no"}, *words.messages[1:]]
    other = OpenedRow(Conversation(words.source, changed, ()), [])
    seen = []
    for neighbour in (rows[3], other):
        batch = collator([[neighbour, entry, neighbour]])
        before, length, _ = batch["row_lengths"]
        logits = forward(model, {**batch, "logits_to_keep": 0, "labels": None}).logits[0]
        seen.append(logits[before : before + length])
    assert torch.equal(seen[0], seen[1])


def test_a_text_only_batch_loses_nothing_by_its_blank_picture(model_and_processor, collator, rows):
    model, _ = model_and_processor
    texts = [entry for entry in rows if not entry.pictures]
    batch = collator([texts])
    assert len(batch["pixel_values"]) == 1
    blanks = batch["input_ids"] == model.config.image_token_index
    assert blanks.sum() == batch["row_lengths"][-1] == collator.image_tokens
    assert (batch["labels"][blanks] == -100).all()
    model.set_attn_implementation({"text_config": "rows"})
    told = forward(model, batch)
    plain = {name: value for name, value in batch.items() if name != "pixel_values"}
    words = plain["input_ids"].shape[1] - collator.image_tokens
    for name in ("input_ids", "position_ids", "labels"):
        plain[name] = plain[name][:, :words]
    plain["row_lengths"] = plain["row_lengths"][:-1]
    assert torch.equal(told.loss, forward(model, plain).loss)
    model.zero_grad()
    told.loss.backward()
    for layer in (model.model.multi_modal_projector.linear_1,
                  model.model.multi_modal_projector.linear_2):  # fmt: skip
        assert torch.equal(layer.weight.grad, torch.zeros_like(layer.weight))


def test_truncation_drops_the_end_but_never_a_part_of_a_picture(model_and_processor, rows):
    model, processor = model_and_processor
    tokens, some = image_token_count(model.config), [rows[0].conversation]
    [whole] = Collator(processor, tokens, 256).encode(some)
    first = whole.input_ids.index(processor.image_token_id)
    answer = next(at for at, label in enumerate(whole.labels) if label != -100)
    [cut] = Collator(processor, tokens, answer + 2).encode(some)
    assert cut.input_ids == whole.input_ids[: answer + 2]
    assert sum(label != -100 for label in cut.labels) == 2
    for length in range(first + 1, first + tokens):
        with pytest.raises(ConversationError, match=r"\(id r0\).*cuts into a picture"):
            Collator(processor, tokens, length).encode(some)
    for length in range(first + tokens, answer + 1):
        with pytest.raises(ConversationError, match=r"\(id r0\).*nothing is left to learn"):
            Collator(processor, tokens, length).encode(some)


@pytest.mark.parametrize("role", ["user", "assistant"])
def test_a_text_that_holds_a_special_token_is_refused(role, collator):
    """An end in the midst of an answer would be learned, one in a question would forge a turn."""
    told = [{"role": "user", "content": "what"}, {"role": "assistant", "content": "a tag"}]
    told = [{**one, "content": "</s> a"} if one["role"] == role else one for one in told]
    with pytest.raises(ConversationError, match="row 1: the text itself holds '</s>', a special"):
        collator.encode([Conversation("row 1", told, ())])


def test_a_text_that_holds_the_pictures_token_is_refused(collator):
    """Where that is a reserved one, `<image>` being none is not enough."""
    token = collator.processor.image_token
    told = [
        {"role": "user", "content": f"what is {token} in html?"},
        {"role": "assistant", "content": "a tag"},
    ]
    with pytest.raises(ConversationError, match=r"row 1: the text itself holds '<image>'"):
        collator.encode([Conversation("row 1", told, ())])


def test_a_turn_that_the_template_does_not_know_is_its_rows_error(parts, tmp_path):
    """Gemma 2's takes no system sentence; the sound row beside it is not blamed."""
    write_tokenizer(FAMILIES["gemma2"], tmp_path / "llm")
    collator = Collator(build_processor(str(parts[0]), str(tmp_path / "llm"), None), 4, 64)
    told = [{"role": "user", "content": "what"}, {"role": "assistant", "content": "a tag"}]
    sound = Conversation("row 1", told, ())
    opened = Conversation("row 2", [{"role": "system", "content": "be brief"}, *told], ())
    with pytest.raises(ConversationError, match=r"^row 2: .* 'system' cannot stand here"):
        collator.encode([sound, opened])
