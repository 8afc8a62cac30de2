import copy
import json

import pytest
import torch
from torch.nn import functional
from transformers import AutoProcessor, LlavaForConditionalGeneration

from mllm.assemble import image_token_count
from mllm.collate import Collator
from mllm.conversation_files import Conversations
from mllm.conversations import Conversation, ConversationError
from mllm.packs import OpenedRow, Packs
from tests.tiny_llava import example_rows, row, write_rows


def opened(folder, *data):
    (folder / "more.json").write_text(json.dumps(data))
    rows = Conversations([folder / "more.json"])
    return [one for [one] in Packs(rows, [[index] for index in range(len(rows))])]


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


def gradients(model, batch):
    model.zero_grad()
    forward(model, batch).loss.backward()
    return {
        name: parameter.grad.clone()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


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


def test_what_fills_a_batch_up_is_a_sequence_of_its_own(collator, rows):
    batch = collator(each_alone(rows[:4]))
    lengths = [len(collator.encode([entry.conversation])[0].labels) for entry in rows[:4]]
    assert len(set(lengths)) > 1
    for positions, length in zip(batch["position_ids"].tolist(), lengths, strict=True):
        assert positions == [*range(length), *range(max(lengths) - length)]
    assert len(batch["pixel_values"]) == 3
    assert len(batch["row_ids"]) == 4


def test_the_kept_positions_give_the_loss_of_all_positions(collator, model_and_processor, rows):
    model, _ = model_and_processor
    batch = collator(each_alone(rows[:6]))
    sparse = forward(model, batch)
    assert sparse.logits.shape[:2] == batch["shift_labels"].shape
    # Masked on the right, as everybody else pads.
    whole = batch["position_ids"].diff(dim=1, prepend=torch.full((6, 1), -1)).ne(1).cumsum(1)
    full = model(
        input_ids=batch["input_ids"],
        attention_mask=(whole == 0).long(),
        pixel_values=batch["pixel_values"],
    ).logits
    by_hand = functional.cross_entropy(
        full[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten(), ignore_index=-100
    )
    torch.testing.assert_close(sparse.loss, by_hand)
    supervised = (batch["labels"] != -100).sum()
    assert supervised == (batch["shift_labels"] != -100).sum()


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("cut", [[16], [5, 16], [1, 2, 3, 16]])
def test_packed_rows_learn_what_they_learn_alone(
    attention, cut, model_and_processor, collator, rows, row_of_two
):
    """Loss and every gradient, with pictures, several of them, and text alone."""
    model, _ = model_and_processor
    model.set_attn_implementation({"text_config": attention})
    some = [*rows[:15], row_of_two]
    packs = [some[start:end] for start, end in zip([0, *cut], cut, strict=False)]
    packed, alone = collator(packs), collator(each_alone(some))
    assert packed["input_ids"].shape[0] == len(cut)
    torch.testing.assert_close(forward(model, packed).loss, forward(model, alone).loss)
    told, expected = gradients(model, packed), gradients(model, alone)
    assert told.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(told[name], gradient, atol=1e-5, rtol=1e-5)


def test_packs_may_be_laid_in_one_sequence(model_and_processor, rows):
    model, processor = model_and_processor
    settings = (processor, image_token_count(model.config), 256)
    packs = [rows[:3], rows[3:5]]
    one = Collator(*settings, one_sequence=True)(packs)
    expected = Collator(*settings)([rows[:5]])
    assert one.keys() == expected.keys()
    for name in ("input_ids", "labels", "position_ids", "pixel_values"):
        assert torch.equal(one[name], expected[name])


def test_a_neighbour_changes_nothing(model_and_processor, collator, rows):
    """Not a bit of a row's logits: of the row before, behind, or below it."""
    model, _ = model_and_processor
    entry, words = rows[0], rows[3].conversation
    changed = [{"role": "user", "content": "square no"}, *words.messages[1:]]
    other = OpenedRow(Conversation(words.source, changed, ()), [])
    seen = []
    for neighbour in (rows[3], other):
        batch = collator([[neighbour, entry, neighbour], [neighbour] * 3])
        logits = model(**{n: batch[n] for n in ("input_ids", "position_ids", "pixel_values")},
                       use_cache=False).logits[0]  # fmt: skip
        starts = (batch["position_ids"][0] == 0).nonzero().flatten().tolist()
        seen.append(logits[starts[1] : starts[2]])
    assert torch.equal(seen[0], seen[1])


def test_a_text_only_batch_loses_nothing_by_its_blank_picture(model_and_processor, collator, rows):
    model, _ = model_and_processor
    texts = [entry for entry in rows if not entry.pictures]
    batch = collator([texts[:3], texts[3:]])
    assert len(batch["pixel_values"]) == 1
    blanks = batch["input_ids"] == model.config.image_token_index
    assert blanks.sum() == collator.image_tokens
    assert blanks[1].sum() == collator.image_tokens
    assert (batch["labels"][blanks] == -100).all()

    plain = [
        model(input_ids=torch.tensor([one.input_ids]), labels=torch.tensor([one.labels]))
        for one in collator.encode([entry.conversation for entry in texts])
    ]
    counts = [
        sum(label != -100 for label in one.labels)
        for one in collator.encode([entry.conversation for entry in texts])
    ]
    expected = sum(told.loss * n for told, n in zip(plain, counts, strict=True)) / sum(counts)
    torch.testing.assert_close(forward(model, batch).loss, expected)
    told = gradients(model, batch)
    for name in ("linear_1", "linear_2"):
        gradient = told[f"model.multi_modal_projector.{name}.weight"]
        assert torch.equal(gradient, torch.zeros_like(gradient))


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


def test_a_text_that_holds_the_pictures_token_is_refused(collator):
    """Where that is a reserved one, `<image>` being none is not enough."""
    token = collator.processor.image_token
    told = [
        {"role": "user", "content": f"what is {token} in html?"},
        {"role": "assistant", "content": "a tag"},
    ]
    with pytest.raises(ConversationError, match=r"row 1: the text itself holds '<image>'"):
        collator.encode([Conversation("row 1", told, ())])
