import pytest
import torch
from PIL import Image
from torch.nn import functional
from transformers import AutoProcessor, LlavaForConditionalGeneration

from mllm.assemble import image_token_count
from mllm.collate import Collator
from mllm.conversations import ConversationError, Conversations
from tests.tiny_llava import example_rows, picture, row, write_rows


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    return Conversations([write_rows(folder, example_rows())], folder).rows


@pytest.fixture(scope="module", params=["clip", "siglip"])
def model_and_processor(request, llava, siglip_llava):
    directory = llava if request.param == "clip" else siglip_llava
    model = LlavaForConditionalGeneration.from_pretrained(directory)
    return model, AutoProcessor.from_pretrained(directory)


@pytest.fixture
def collator(model_and_processor):
    model, processor = model_and_processor
    return Collator(processor, image_token_count(model.config), max_length=256)


def forward(model, batch):
    return model(**{name: value for name, value in batch.items() if name != "row_ids"})


def gradient(model):
    return model.model.multi_modal_projector.linear_1.weight.grad


def test_tokens_and_labels_equal_the_processors_own(collator, rows):
    """The placeholder is expanded after tokenising here, before it in the processor."""
    for entry in rows:
        batch = collator([entry])
        messages = entry.messages()
        if entry.image is not None:
            messages[0]["content"][0]["image"] = Image.open(entry.image)
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
        if entry.image is not None:
            assert torch.equal(batch["pixel_values"], expected["pixel_values"])


def test_exactly_the_answers_and_their_ends_are_learned(collator, rows):
    labels = collator(rows[:1])["labels"][0]
    learned = collator.processor.tokenizer.decode(labels[labels != -100])
    assert learned == "a red circle</s> one</s>"


def test_a_batch_is_padded_on_the_right(collator, rows):
    batch = collator(rows[:4])
    lengths = [int(collator([entry])["attention_mask"].sum()) for entry in rows[:4]]
    for position, length in enumerate(lengths):
        assert batch["attention_mask"][position].tolist() == [1] * length + [0] * (
            max(lengths) - length
        )
    assert len(batch["pixel_values"]) == 3
    assert len(batch["row_ids"]) == 4


def test_the_kept_positions_give_the_loss_of_all_positions(collator, model_and_processor, rows):
    model, _ = model_and_processor
    batch = collator(rows[:6])
    sparse = forward(model, batch)
    assert sparse.logits.shape[:2] == batch["shift_labels"].shape
    full = model(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        pixel_values=batch["pixel_values"],
    ).logits
    by_hand = functional.cross_entropy(
        full[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten(), ignore_index=-100
    )
    torch.testing.assert_close(sparse.loss, by_hand)
    supervised = (batch["labels"] != -100).sum()
    assert supervised == (batch["shift_labels"] != -100).sum()


def test_a_text_only_batch_loses_nothing_by_its_blank_picture(model_and_processor, collator, rows):
    model, _ = model_and_processor
    texts = [entry for entry in rows if entry.image is None]
    batch = collator(texts)
    assert len(batch["pixel_values"]) == 1
    blanks = batch["input_ids"] == model.config.image_token_index
    assert blanks.sum() == collator.image_tokens
    assert not batch["attention_mask"][blanks].any()
    assert (batch["labels"][blanks] == -100).all()

    length = int(batch["attention_mask"].sum(1).max())
    plain = model(
        input_ids=batch["input_ids"][:, :length].masked_fill(blanks[:, :length], 0),
        attention_mask=batch["attention_mask"][:, :length],
        labels=batch["labels"][:, :length],
    ).loss
    model.zero_grad()
    loss = forward(model, batch).loss
    torch.testing.assert_close(loss, plain, rtol=1e-6, atol=0)
    loss.backward()
    assert torch.equal(gradient(model), torch.zeros_like(gradient(model)))


def test_neighbours_in_a_batch_do_not_change_a_row(model_and_processor, collator, rows):
    model, _ = model_and_processor
    alone = forward(model, collator([rows[0]])).logits
    batch = collator([rows[0], rows[1], rows[3]])
    kept = batch["shift_labels"][0] != -100
    torch.testing.assert_close(forward(model, batch).logits[0][kept], alone[0])


def test_truncation_drops_the_end_but_never_a_part_of_a_picture(model_and_processor, rows):
    model, processor = model_and_processor
    tokens = image_token_count(model.config)
    whole = Collator(processor, tokens, 256)([rows[0]])["input_ids"][0]
    first = int((whole == processor.image_token_id).nonzero()[0])
    answer = int((Collator(processor, tokens, 256)([rows[0]])["labels"][0] != -100).nonzero()[0])
    cut = Collator(processor, tokens, answer + 2)([rows[0]])
    assert torch.equal(cut["input_ids"][0], whole[: answer + 2])
    assert (cut["labels"] != -100).sum() == 2
    for length in range(first + 1, first + tokens):
        with pytest.raises(ConversationError, match=r"\(id r0\).*cuts into the picture"):
            Collator(processor, tokens, length)([rows[0]])
    for length in range(first + tokens, answer + 1):
        with pytest.raises(ConversationError, match=r"\(id r0\).*nothing is left to learn"):
            Collator(processor, tokens, length)([rows[0]])


def test_rows_without_room_for_an_answer_are_found_before_training(model_and_processor, tmp_path):
    model, processor = model_and_processor
    data = [row("short", "s.png", "what", "one"), row("long", None, "what " * 100, "one")]
    entries = Conversations([write_rows(tmp_path, data)], tmp_path).rows
    collator = Collator(processor, image_token_count(model.config), 128)
    collator.check_lengths(entries[:1])
    with pytest.raises(ConversationError, match=r"\(id long\).*nothing is left to learn"):
        collator.check_lengths(entries)


def test_a_truncated_picture_is_named(collator, tmp_path):
    file = write_rows(tmp_path, [row("cut", "c.png", "what", "one")])
    picture(0, 64, 64).save(tmp_path / "c.png")
    (tmp_path / "c.png").write_bytes((tmp_path / "c.png").read_bytes()[:2000])
    rows = Conversations([file], tmp_path).rows
    with pytest.raises(ConversationError, match=r"\(id cut\).*c\.png cannot be decoded"):
        collator(rows)
