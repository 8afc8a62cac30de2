import json

import pytest

from mllm.conversations import ConversationError, Conversations
from tests.tiny_llava import picture, row


@pytest.fixture
def folder(tmp_path):
    picture(0).save(tmp_path / "a.png")
    return tmp_path


def read(folder, rows):
    file = folder / "rows.json"
    file.write_text(json.dumps(rows) if not isinstance(rows, str) else rows)
    return Conversations([file], folder)


def turns(*pairs):
    return [{"from": speaker, "value": value} for speaker, value in pairs]


def test_rows_of_every_kind(folder):
    rows = [
        row("p", "a.png", "what", "a circle", "how many", "one"),
        row("t", None, "hello", "yes"),
        {
            "id": 3,
            "image": "a.png",
            "conversations": turns(("human", "what is it?\n<image>"), ("gpt", "a square")),
        },
    ]
    first, second, third = read(folder, rows).rows
    assert first.image == folder / "a.png"
    assert first.turns == ("what", "a circle", "how many", "one")
    assert first.messages()[0]["content"] == [{"type": "image"}, {"type": "text", "text": "what"}]
    assert [message["role"] for message in first.messages()] == ["user", "assistant"] * 2
    assert second.image is None
    assert second.messages()[0] == {"role": "user", "content": "hello"}
    # LLaVA too moves a placeholder at the end to the front.
    assert third.turns[0] == "what is it?"
    assert third.source.endswith("rows.json: row 2 (id 3)")


def test_files_follow_one_another(folder):
    for name in "xy":
        (folder / f"{name}.json").write_text(json.dumps([row(name, None, "q", "a")]))
    both = Conversations([folder / "x.json", folder / "y.json"], folder)
    assert [entry.source[-7:] for entry in both.rows] == [" (id x)", " (id y)"]
    assert len(both) == 2
    assert both[1] is both.rows[1]


HUMAN, GPT = ("human", "q"), ("gpt", "a")
SEEN = ("human", "<image>\nq")
WRONG = {
    "missing image": ({"image": "b.png", "conversations": turns(SEEN, GPT)}, "does not exist"),
    "image is a list": (
        {"image": ["a.png"], "conversations": turns(SEEN, GPT)},
        "must be one path",
    ),
    "placeholder alone": ({"conversations": turns(SEEN, GPT)}, "the row has no `image`"),
    "image alone": ({"image": "a.png", "conversations": turns(HUMAN, GPT)}, "exactly once"),
    "two placeholders": (
        {"image": "a.png", "conversations": turns(("human", "<image><image>"), GPT)},
        "exactly once",
    ),
    "placeholder in an answer": (
        {"image": "a.png", "conversations": turns(SEEN, ("gpt", "<image>"))},
        "exactly once",
    ),
    "placeholder too late": (
        {"image": "a.png", "conversations": turns(HUMAN, GPT, SEEN, GPT)},
        "exactly once",
    ),
    "roles swapped": ({"conversations": turns(GPT, HUMAN)}, 'turn 0 must be {"from": "human"'),
    "two answers": ({"conversations": turns(HUMAN, GPT, GPT, GPT)}, "turn 2 must be"),
    "unknown role": ({"conversations": turns(("user", "q"), GPT)}, "turn 0 must be"),
    "empty answer": (
        {"conversations": turns(HUMAN, ("gpt", " \n"))},
        r"turn 1 \(gpt\) has no text",
    ),
    "answer is a number": ({"conversations": turns(HUMAN, ("gpt", 3))}, "turn 1"),
    "no value": ({"conversations": [{"from": "human"}, {"from": "gpt"}]}, "turn 0"),
    "unanswered": ({"conversations": turns(HUMAN)}, "each question answered"),
    "no conversations": ({}, "each question answered"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_row_is_named_with_file_and_id(folder, case):
    broken, told = WRONG[case]
    with pytest.raises(ConversationError, match=told) as error:
        read(folder, [row("good", None, "q", "a"), {"id": "bad", **broken}])
    assert f"{folder / 'rows.json'}: row 1 (id bad)" in str(error.value)


@pytest.mark.parametrize(
    ("content", "told"),
    [("[", "is no JSON"), ("{}", "no JSON list"), ("[3]", "row 0 is no object"), ("[]", "no row")],
)
def test_a_wrong_file_is_named(folder, content, told):
    with pytest.raises(ConversationError, match=told):
        read(folder, content)


def test_a_missing_file_is_named(folder):
    with pytest.raises(ConversationError, match=r"nowhere\.json does not exist"):
        Conversations([folder / "nowhere.json"], folder)
