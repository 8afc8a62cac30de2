"""Files of conversations as they are published."""

import io
import json

import datasets
import pytest

from mllm.conversation_files import Conversations
from mllm.conversations import ConversationError
from tests.tiny_llava import picture, row

TALK = [{"from": "human", "value": "<image>\nq"}, {"from": "gpt", "value": "a"}]


def write(file, rows):
    text = json.dumps(rows)
    if file.suffix == ".jsonl":
        text = "\n".join(json.dumps(one) for one in rows) + "\n\n"
    file.write_text(text)
    return file


def encoded(seed):
    data = io.BytesIO()
    picture(seed).save(data, "png")
    return data.getvalue()


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_rows_may_differ_in_their_fields_as_in_llavas_mixture(suffix, tmp_path):
    rows = [
        row("000000033471", "coco/a.jpg", "what", "a circle"),
        {**row(7, None, "hello", "yes"), "model": ""},
        {"id": "m", "image": ["a.jpg", "b.jpg"], "conversations": [
            {"from": "human", "value": "<image> or <image>?"}, {"from": "gpt", "value": "é"}]},
    ]  # fmt: skip
    told = Conversations([write(tmp_path / f"rows{suffix}", rows)], tmp_path / "images")
    assert [len(one.pictures) for one in told] == [1, 0, 2]
    assert told[0].pictures == (tmp_path / "images/coco/a.jpg",)
    assert told[1].source == f"{tmp_path / 'rows'}{suffix}: row 1 (id 7)"
    assert told[2].messages[1]["content"] == "é"


def test_files_follow_one_another_and_paths_start_where_a_file_lies(tmp_path):
    for name in "xy":
        (tmp_path / name).mkdir()
        write(tmp_path / name / "rows.json", [row(name, f"{name}.png", "q", "a")] * 2)
    both = Conversations([tmp_path / "x/rows.json", tmp_path / "y/rows.json"])
    assert len(both) == 4
    assert [one.pictures[0].name for one in both] == ["x.png", "x.png", "y.png", "y.png"]
    assert both[2].pictures == (tmp_path / "y/y.png",)
    assert both[3].source.endswith("y/rows.json: row 1 (id y)")


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path):
    text = json.dumps([row("x", None, "q", "a")])
    (tmp_path / "rows.json").write_text(text, encoding="utf-8-sig")
    assert Conversations([tmp_path / "rows.json"])[0].messages[0]["content"] == "q"


def test_json_lines_may_be_called_json(tmp_path):
    """A line separator of Unicode, which json lets stand in a text, ends no line."""
    rows = [row("x", None, "q", "a\u2028b"), row("y", None, "q", "c")]
    lines = "\n".join(json.dumps(one, ensure_ascii=False) for one in rows)
    (tmp_path / "rows.json").write_text(f"\n{lines}\n", encoding="utf-8-sig")
    told = Conversations([tmp_path / "rows.json"])
    assert [one.messages[1]["content"] for one in told] == ["a\u2028b", "c"]


@pytest.mark.parametrize("column", ["image", "images"])
def test_onevisions_parquet_holds_the_pictures(column, tmp_path):
    one, feature = {"bytes": encoded(1), "path": None}, datasets.Image()
    several = column == "images"
    features = datasets.Features(
        {
            "id": datasets.Value("string"),
            column: datasets.List(feature) if several else feature,
            "conversations": datasets.List(
                {"from": datasets.Value("string"), "value": datasets.Value("string")}
            ),
        }
    )
    rows = [
        {"id": "1", column: [one] if several else one, "conversations": TALK},
        {"id": "2", column: [] if several else None, "conversations": [
            {"from": "human", "value": "q"}, TALK[1]]},
    ]  # fmt: skip
    datasets.Dataset.from_list(rows, features=features).to_parquet(tmp_path / "rows.parquet")
    told = Conversations([tmp_path / "rows.parquet"])
    assert told[0].pictures == (encoded(1),)
    assert told[1].pictures == ()


def test_messages_in_parquet(tmp_path):
    """As `datasets` writes chat messages: every item has every field."""
    item = {"type": datasets.Value("string"), "text": datasets.Value("string")}
    message = {"role": datasets.Value("string"), "content": datasets.List(item)}
    features = datasets.Features(
        {"images": datasets.List(datasets.Image()), "messages": datasets.List(message)}
    )
    content = [{"type": "image", "text": None}, {"type": "text", "text": "q"}]
    said = [
        {"role": "user", "content": content},
        {"role": "assistant", "content": [{"type": "text", "text": "a"}]},
    ]
    rows = [{"images": [{"bytes": encoded(2), "path": None}], "messages": said}]
    datasets.Dataset.from_list(rows, features=features).to_parquet(tmp_path / "rows.parquet")
    [told] = Conversations([tmp_path / "rows.parquet"])
    assert told.pictures == (encoded(2),)
    assert told.messages[0]["content"] == [{"type": "image"}, {"type": "text", "text": "q"}]


@pytest.mark.parametrize("listed", [datasets.List, datasets.LargeList])
def test_messages_in_parquet_may_hold_their_pictures(listed, tmp_path):
    """In their items, undecoded: `datasets` would hand out PIL pictures."""
    item = {
        "type": datasets.Value("string"),
        "text": datasets.Value("string"),
        "image": datasets.Image(),
    }
    message = {"role": datasets.Value("string"), "content": listed(item)}
    features = datasets.Features({"messages": listed(message)})
    question = {"type": "text", "text": "q", "image": None}
    shown = {"type": "image", "text": None, "image": {"bytes": encoded(3), "path": None}}
    answer = {"role": "assistant", "content": [{"type": "text", "text": "a", "image": None}]}
    rows = [{"messages": [{"role": "user", "content": [shown, question]}, answer]}]
    datasets.Dataset.from_list(rows, features=features).to_parquet(tmp_path / "rows.parquet")
    [told] = Conversations([tmp_path / "rows.parquet"])
    assert told.pictures == (encoded(3),)
    assert told.messages[0]["content"] == [{"type": "image"}, {"type": "text", "text": "q"}]


def test_openais_messages_in_parquet(tmp_path):
    """Every item has every field there too, and an address is wrapped once more."""
    question = [
        {"type": "image_url", "image_url": {"url": "coco/a.jpg"}},
        {"type": "text", "text": "q"},
    ]
    answer = [{"type": "text", "text": "a"}]
    said = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    datasets.Dataset.from_list([{"messages": said}]).to_parquet(tmp_path / "rows.parquet")
    [told] = Conversations([tmp_path / "rows.parquet"])
    assert told.pictures == (tmp_path / "coco/a.jpg",)


def test_a_changed_file_is_read_again(tmp_path):
    file = write(tmp_path / "rows.json", [row("x", None, "q", "a")])
    before = Conversations([file])
    write(file, [row("x", None, "q", "another answer")])
    after = Conversations([file])
    assert after[0].messages[1]["content"] == "another answer"
    assert before.fingerprint != after.fingerprint


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("rows.json", "[", "cannot be read as rows"),
        ("rows.json", "{}", "holds no list of rows"),
        ("rows.json", "[]", "holds no row"),
        ("rows.json", '{"id": 1}\n{"id": 2', "cannot be read as rows"),
        ("rows.json", '[{"id": 1}]\n]', "Extra data: line 2 column 1"),
        ("rows.jsonl", '{"id": 1}\n{', "cannot be read as rows"),
        ("rows.jsonl", "\n", "holds no row"),
        ("rows.parquet", "no parquet", "cannot be read as rows"),
        ("rows.txt", "hello", "known are .json, .jsonl and .parquet"),
    ],
)
def test_a_broken_file_is_named(name, content, told, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(ConversationError, match=told) as error:
        Conversations([tmp_path / name])
    assert str(error.value).startswith(str(tmp_path / name))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConversationError, match=r"nowhere\.json does not exist"):
        Conversations([tmp_path / "nowhere.json"])


def test_a_row_that_is_no_object_is_named(tmp_path):
    rows = Conversations([write(tmp_path / "rows.json", [row("x", None, "q", "a"), 3])])
    with pytest.raises(ConversationError, match=r"rows\.json: row 1 is no object"):
        rows[1]
