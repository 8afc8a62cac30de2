"""Rows of both forms, and every kind of broken one."""

from pathlib import Path

import pytest

from mllm.conversations import ConversationError, read_conversation

ROOT = Path("/data/images")


def read(**values):
    return read_conversation(values, "rows.json: row 4", ROOT)


def turns(*pairs):
    return [{"from": speaker, "value": value} for speaker, value in pairs]


def said(*pairs):
    return [{"role": role, "content": content} for role, content in pairs]


HUMAN, GPT = ("human", "q"), ("gpt", "a")
SEEN = ("human", "<image>\nq")
PICTURE, QUESTION = {"type": "image"}, {"type": "text", "text": "q"}
LEARNED = said(("user", [PICTURE, QUESTION]), ("assistant", "a"))


@pytest.mark.parametrize("question", ["<image>\nq", "q\n<image>", "<image>q"])
def test_the_only_picture_comes_first(question):
    row = read(id="x", image="coco/a.jpg", conversations=turns(("human", question), GPT))
    assert row.messages == LEARNED
    assert row.pictures == (ROOT / "coco/a.jpg",)
    assert row.source == "rows.json: row 4 (id x)"


def test_a_picture_may_be_spoken_of_late():
    row = read(image="a.jpg", conversations=turns(HUMAN, GPT, SEEN, GPT))
    assert row.messages == [*said(("user", "q"), ("assistant", "a")), *LEARNED]


def test_of_several_pictures_each_stays_where_it_is():
    question = "Is <image> like <image>?"
    row = read(image=["a.jpg", "b.jpg"], conversations=turns(("human", question), GPT))
    assert row.messages[0]["content"] == question
    assert row.pictures == (ROOT / "a.jpg", ROOT / "b.jpg")


@pytest.mark.parametrize(
    "stored", [b"jpeg", {"bytes": b"jpeg", "path": "a.jpg"}, {"bytes": b"jpeg", "path": None}]
)
def test_a_picture_may_be_its_bytes(stored):
    assert read(image=stored, conversations=turns(SEEN, GPT)).pictures == (b"jpeg",)


@pytest.mark.parametrize("stored", [{"bytes": None, "path": "a.jpg"}, "a.jpg", ["a.jpg"]])
def test_a_picture_may_be_a_path(stored):
    assert read(images=stored, conversations=turns(SEEN, GPT)).pictures == (ROOT / "a.jpg",)


@pytest.mark.parametrize(
    "nothing", [{}, {"image": None}, {"image": ""}, {"images": []}, {"images": None}]
)
def test_rows_of_text_alone(nothing):
    row = read(conversations=turns(HUMAN, GPT), **nothing)
    assert row.messages == said(("user", "q"), ("assistant", "a"))
    assert row.pictures == ()


@pytest.mark.parametrize(
    "content",
    [
        [PICTURE, QUESTION],
        [{"type": "image", "text": None}, {"type": "text", "text": "q", "image": None}],
        "<image>\nq",
    ],
)
def test_chat_messages_take_their_pictures_from_beside(content):
    row = read(messages=said(("user", content), ("assistant", "a")), images=["a.jpg"])
    assert row.messages == LEARNED
    assert row.pictures == (ROOT / "a.jpg",)


@pytest.mark.parametrize(
    "item",
    [
        {"type": "image", "image": "a.jpg"},
        {"type": "image", "path": "a.jpg"},
        {"type": "image", "url": "a.jpg"},
        {"type": "image", "image": None, "url": "", "path": "a.jpg", "image_url": None},
        {"type": "image_url", "image_url": {"url": "a.jpg"}},
        {"type": "image_url", "image_url": "a.jpg"},
    ],
)
def test_chat_messages_may_hold_their_pictures(item):
    content = [item, QUESTION]
    row = read(messages=said(("user", content), ("assistant", [{"type": "text", "text": "a"}])))
    assert row.pictures == (ROOT / "a.jpg",)
    assert row.messages[0]["content"] == [PICTURE, QUESTION]


@pytest.mark.parametrize("kind", ["data:image/png;base64,", "data:;base64,"])
def test_a_picture_may_be_written_out(kind):
    """As a data: URI, base64 of b"jpeg"."""
    item = {"type": "image_url", "image_url": {"url": f"{kind}anBlZw=="}}
    told = said(("user", [item, QUESTION]), ("assistant", "a"))
    assert read(messages=told).pictures == (b"jpeg",)


def test_a_question_may_be_the_picture_alone():
    told = said(("user", [PICTURE]), ("assistant", "a"))
    assert read(messages=told, image="a.jpg").messages == told


@pytest.mark.parametrize("root", ["..", "../data", "/data/other/../images", "."])
def test_a_root_may_be_written_in_any_way(root):
    row = {"image": "a.jpg", "conversations": turns(SEEN, GPT)}
    assert read_conversation(row, "rows", Path(root)).pictures == (Path(root) / "a.jpg",)


def test_of_several_pictures_each_stays_where_it_is_in_messages_too():
    content = [{"type": "text", "text": "is "}, PICTURE, {"type": "text", "text": "like "}, PICTURE]
    row = read(messages=said(("user", content), ("assistant", "a")), images=["a.jpg", "b.jpg"])
    assert row.messages[0]["content"] == "is <image>\nlike <image>\n"


def test_a_system_sentence_comes_first():
    row = read(conversations=turns(("system", "be brief"), HUMAN, GPT))
    assert row.messages[0] == {"role": "system", "content": "be brief"}
    assert len(row.messages) == 3


def test_what_cannot_be_learned_is_left_out():
    row = read(conversations=turns(GPT, HUMAN, GPT, ("human", "and then?")))
    assert row.messages == said(("user", "q"), ("assistant", "a"))


IMAGE = {"image": "a.png"}
WRONG = {
    "no conversations": ({}, "must be a list of turns"),
    "conversations are text": ({"conversations": "hello"}, "must be a list of turns"),
    "no messages": ({"messages": []}, "must be a list of messages"),
    "turns without speakers": ({"conversations": ["q", "a"]}, "turn 0 must be"),
    "unknown speaker": ({"conversations": turns(("tool", "q"), GPT)}, "turn 0 must be"),
    "unknown role": ({"messages": said(("tool", "q"))}, "message 0 must have a role"),
    "empty answer": ({"conversations": turns(HUMAN, ("gpt", " \n"))}, "turn 1 has no text"),
    "answer is a number": ({"conversations": turns(HUMAN, ("gpt", 3))}, "turn 1 has no text"),
    "no value": ({"conversations": [{"from": "human"}]}, "turn 0 has no text"),
    "no content": ({"messages": [{"role": "user"}]}, "turn 0 has no text"),
    "empty list": ({"messages": said(("user", []))}, "turn 0 has no text"),
    "sound": ({"messages": said(("user", [{"type": "audio"}]))}, "message 0 holds"),
    "text is a number": ({"messages": said(("user", [{"type": "text", "text": 3}]))}, "holds"),
    "place in an item": (
        {"messages": said(("user", [{"type": "text", "text": "<image>"}]))},
        "or text without <image>",
    ),
    "place without picture": ({"conversations": turns(SEEN, GPT)}, "has 0 pictures and 1 <image>"),
    "picture without place": (
        {**IMAGE, "conversations": turns(HUMAN, GPT)},
        "has 1 pictures and 0 <image>",
    ),
    "two places": (
        {**IMAGE, "conversations": turns(("human", "<image><image>"), GPT)},
        "has 1 pictures and 2 <image>",
    ),
    "place in an answer": (
        {**IMAGE, "conversations": turns(SEEN, ("gpt", "<image>"))},
        "stands in what is not asked",
    ),
    "picture of a question that is left out": (
        {**IMAGE, "conversations": turns(HUMAN, GPT, SEEN)},
        "has 0 pictures and 1",
    ),
    "two answers": ({"conversations": turns(HUMAN, GPT, GPT)}, "must follow in turn"),
    "two questions": ({"conversations": turns(HUMAN, HUMAN, GPT)}, "must follow in turn"),
    "only an answer": ({"conversations": turns(GPT)}, "must follow in turn"),
    "only a question": ({"conversations": turns(HUMAN)}, "must follow in turn"),
    "late system sentence": (
        {"conversations": turns(HUMAN, GPT, ("system", "s"), GPT)},
        "must follow in turn",
    ),
    "picture is a number": ({"image": 7, "conversations": turns(SEEN, GPT)}, "7 is no picture"),
    "picture is empty": (
        {"image": "", "conversations": turns(SEEN, GPT)},
        "has 0 pictures and 1 <image>",
    ),
    "one of several is empty": (
        {"image": ["a.png", ""], "conversations": turns(SEEN, GPT)},
        "'' is no picture",
    ),
    "an answer is a picture": (
        {"messages": said(("user", "q"), ("assistant", [PICTURE]))},
        "stands in what is not asked",
    ),
    "item without url": (
        {"messages": said(("user", [{"type": "image_url"}, QUESTION]), ("assistant", "a"))},
        "has 0 pictures and 1 <image>",
    ),
    "picture on the web": (
        {"image": "https://a.org/b.png", "conversations": turns(SEEN, GPT)},
        "https://a.org/b.png is on the web: download it",
    ),
    "data of no base64": (
        {"image": "data:image/png;base64,a*b", "conversations": turns(SEEN, GPT)},
        "is no base64",
    ),
    "data of another kind": (
        {"image": "data:image/svg+xml,%3Csvg", "conversations": turns(SEEN, GPT)},
        "is no base64",
    ),
    "struct is empty": (
        {"image": {"bytes": None, "path": None}, "conversations": turns(SEEN, GPT)},
        "is no picture",
    ),
    "path out of the root": (
        {"image": "../../etc/a.png", "conversations": turns(SEEN, GPT)},
        "leads out of /data/images",
    ),
    "absolute path": ({"image": "/etc/a.png", "conversations": turns(SEEN, GPT)}, "leads out of"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_broken_row_is_named_with_file_and_id(case):
    values, told = WRONG[case]
    with pytest.raises(ConversationError, match=told) as error:
        read(id="bad", **values)
    assert str(error.value).startswith("rows.json: row 4 (id bad): ")
