import json
import socket

import pytest
from gradio_client import Client, handle_file

from mllm.assemble import assemble
from mllm.chat import Chat
from scripts.demo import (
    NO_ANSWER,
    NOT_A_CHAT_MODEL,
    QuestionError,
    build_app,
    is_stage_3,
    launch,
    to_messages,
)
from tests.tiny_llava import picture, write_language_model, write_tower


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    root = tmp_path_factory.mktemp("demo")
    tower, llm = write_tower(root / "tower"), write_language_model(root / "llm")
    assemble(str(tower), str(llm), root / "mllm", system="")
    return root / "mllm"


@pytest.fixture(scope="module")
def served(directory):
    """(model, client of the running app, address)"""
    chat = Chat(directory, "cpu")
    app = build_app(chat, str(directory), max_new_tokens=24)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = launch(app, port, block=False)
    yield chat, Client(address, verbose=False), address
    app.close()


def test_it_serves_this_machine_only(served):
    assert served[2].startswith("http://127.0.0.1:")


def test_a_picture_question_is_answered_as_by_the_model(served, tmp_path, monkeypatch):
    chat, client, _ = served
    monkeypatch.setattr(chat.model.generation_config, "min_new_tokens", 3)
    picture(4).save(tmp_path / "p.png")
    question = {"text": "what is in the picture", "files": [handle_file(str(tmp_path / "p.png"))]}
    job = client.submit(question, api_name="/chat")
    answer = job.result(timeout=60)
    expected = chat.answer(picture(4), "what is in the picture", max_new_tokens=24)
    assert answer.strip() == expected
    assert len(job.outputs()) > 1, "the answer did not stream"


def test_a_file_that_is_no_picture_is_told(served, tmp_path):
    (tmp_path / "p.png").write_bytes(b"no picture")
    question = {"text": "what", "files": [handle_file(str(tmp_path / "p.png"))]}
    served[1].reset_session()
    told = served[1].predict(question, api_name="/chat")
    assert told.startswith(NO_ANSWER)
    assert "p.png cannot be read as a picture" in told


def test_the_models_own_error_is_told(served, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("out of memory, 3 GB short")

    monkeypatch.setattr(served[0].model, "generate", fail)
    served[1].reset_session()
    told = served[1].predict({"text": "what", "files": []}, api_name="/chat")
    assert told == f"{NO_ANSWER} RuntimeError: out of memory, 3 GB short"


def turn(role, text=None, file=None):
    content = [{"type": "text", "text": text}] if text else []
    if file:
        content.insert(0, {"type": "file", "file": {"path": str(file)}})
    return {"role": role, "content": content}


def test_a_new_picture_starts_a_new_conversation(tmp_path):
    picture(1, 8, 8).save(tmp_path / "a.png")
    picture(2, 24, 8).save(tmp_path / "b.png")
    history = [
        turn("user", file=tmp_path / "a.png"),
        turn("user", "what"),
        turn("assistant", "a circle"),
        turn("user", "how many"),
        turn("assistant", "one"),
    ]
    first = to_messages([*history, turn("user", "red")])
    assert [message["role"] for message in first] == ["user", "assistant"] * 2 + ["user"]
    assert first[0]["content"][0]["image"].size == (8, 8)
    assert first[0]["content"][1]["text"] == "what"
    assert first[1]["content"] == "a circle"
    second = to_messages([*history, turn("user", "and this", tmp_path / "b.png")])
    assert len(second) == 1
    bare = [{"role": "user", "content": [{"path": str(tmp_path / "a.png")}, "what"]}]
    bare += [{"role": "assistant", "content": "a circle"}, *history[3:]]
    assert [m["content"] for m in to_messages([*bare, turn("user", "red")])[1:]] == [
        m["content"] for m in first[1:]
    ]
    assert second[0]["content"][0]["image"].size == (24, 8)


def test_a_question_without_answer_is_forgotten(tmp_path):
    picture(1, 8, 8).save(tmp_path / "a.png")
    history = [
        turn("user", "what", tmp_path / "a.png"),
        turn("assistant", "a circle"),
        turn("user", file=tmp_path / "broken.png"),
        turn("user", "and this"),
        turn("assistant", f"{NO_ANSWER} broken.png"),
        turn("user", "how many"),
    ]
    messages = to_messages(history)
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    assert messages[2]["content"] == [{"type": "text", "text": "how many"}]


def test_a_question_without_words_is_told(tmp_path):
    picture(1).save(tmp_path / "a.png")
    with pytest.raises(QuestionError, match="Ask something"):
        to_messages([turn("user", file=tmp_path / "a.png")])


def test_a_stage_3_checkpoint_says_that_it_does_not_chat(tmp_path, directory):
    assert not is_stage_3(str(tmp_path))
    (tmp_path / "recipe.json").write_text(json.dumps({"stage": "PretrainProjector"}))
    assert is_stage_3(str(tmp_path))
    app = build_app(Chat(directory, "cpu"), str(tmp_path))
    assert app.description == NOT_A_CHAT_MODEL
    (tmp_path / "recipe.json").write_text(json.dumps({"stage": "Finetune"}))
    assert not is_stage_3(str(tmp_path))
