"""A server of a few lines that speaks as vLLM does, and one that fails in every way."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

from mllm.endpoint import Endpoint
from tests.tiny_llava import picture


class Server(ThreadingHTTPServer):
    """Repeats the question and the mean of its picture; first the failures it is given."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.failures: list[int] = []
        self.bodies: list[dict] = []
        self.headers: list[dict] = []
        self.together = threading.Barrier(1)
        self.reply: object = None
        self.unknown: tuple[int, str] | None = None  # a refusal of fields that OpenAI has not

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.bodies.append(body)
        self.server.headers.append(dict(self.headers))
        self.server.together.wait(timeout=10)
        if self.path != "/v1/chat/completions":
            self.send_error(404)
        elif self.server.unknown and "chat_template_kwargs" in body:
            status, told = self.server.unknown
            self.send_error(status, explain=told)
        elif self.server.failures:
            status = self.server.failures.pop(0)
            if status:
                self.send_error(status, explain="the prompt is too long")
            else:
                self.connection.close()
        else:
            reply = self.server.reply or {
                "choices": [{"message": {"role": "assistant", "content": said(body)}}]
            }
            told = json.dumps(reply).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(told)))
            self.end_headers()
            self.wfile.write(told)

    def log_message(self, *_: object) -> None:
        """Nothing on the terminal."""


def said(body: dict) -> str:
    parts = body["messages"][0]["content"]
    image = next((part["image_url"]["url"] for part in parts if part["type"] == "image_url"), None)
    mean = "" if image is None else str(
        np.asarray(Image.open(io.BytesIO(base64.b64decode(image.partition(",")[2])))).mean()
    )  # fmt: skip
    return f" {parts[-1]['text']} {mean}\n"


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def test_questions_are_asked_at_once_and_answered_in_order(server: Server) -> None:
    image, other = picture(1), picture(2)
    server.together = threading.Barrier(4)  # it answers when all four are there
    answers = Endpoint(server.url + "/", "fovea").answer_batch(
        [(image, "one"), (None, "two"), (other, "three"), (image, "four")], max_new_tokens=7
    )
    first, second = (str(np.asarray(i).mean()) for i in (image, other))
    assert answers == [f"one {first}", "two", f"three {second}", f"four {first}"]
    for body in server.bodies:
        assert body["model"] == "fovea"
        assert (body["temperature"], body["max_tokens"]) == (0, 7)
        kinds = [part["type"] for part in body["messages"][0]["content"]]
        assert kinds in (["image_url", "text"], ["text"])


@pytest.mark.parametrize("failures", [[429], [503, 0, 500]])
def test_what_passes_is_waited_for(server: Server, failures: list[int]) -> None:
    server.failures = list(failures)
    endpoint = Endpoint(server.url, "fovea", pauses=[0.01] * 3)
    assert endpoint.answer_batch([(None, "what")]) == ["what"]
    assert len(server.bodies) == len(failures) + 1


def test_what_does_not_pass_stops_with_the_question(server: Server) -> None:
    server.failures = [400]
    endpoint = Endpoint(server.url, "fovea", pauses=[0.01] * 3)
    with pytest.raises(RuntimeError, match=r"(?s)not answer 'what' .*400 .*prompt is too long"):
        endpoint.answer_batch([(None, "what")])
    assert len(server.bodies) == 1
    server.failures = [503] * 9
    with pytest.raises(RuntimeError, match=r"does not answer 'what' .*503"):
        endpoint.answer_batch([(None, "what")])
    assert len(server.bodies) == 5


def test_no_server_stops_with_the_question(server: Server) -> None:
    with pytest.raises(RuntimeError, match=r"does not answer 'what' .*ConnectError"):
        Endpoint("http://127.0.0.1:9/v1", "fovea", pauses=[]).answer_batch([(None, "what")])


@pytest.mark.parametrize(
    "reply", [{"choices": []}, {"choices": [{"message": {"content": None}}]}, {"error": "x"}, [1]]
)
def test_no_answer_never_becomes_an_empty_one(server: Server, reply: object) -> None:
    server.reply = reply
    with pytest.raises(RuntimeError, match="does not answer 'what'"):
        Endpoint(server.url, "fovea").answer_batch([(None, "what")])


def test_the_key_is_sent_and_kept_nowhere(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    Endpoint(server.url, "fovea").answer_batch([(None, "what")])
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    endpoint = Endpoint(server.url, "fovea")
    endpoint.answer_batch([(None, "what")])
    assert [told.get("Authorization") for told in server.headers] == [None, "Bearer secret"]
    assert "secret" not in str(vars(endpoint))


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://host/v1", "http://user:secret@host/v1"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="address") as refused:
        Endpoint(url, "fovea")
    assert "secret" not in str(refused.value)


def told(content: str | None, finish_reason: str) -> dict:
    message = {"role": "assistant", "content": content}
    return {"choices": [{"message": message, "finish_reason": finish_reason}]}


def test_thoughts_are_no_part_of_an_answer(server: Server) -> None:
    server.reply = told("<think>\nIs it correct?\n</think>\n\nincorrect\n", "stop")
    assert Endpoint(server.url, "fovea").answer_batch([(None, "what")]) == ["incorrect"]


@pytest.mark.parametrize("content", ["<think>\nOkay, I must say whether it is correct or", None])
def test_a_model_that_is_cut_while_it_thinks_has_not_answered(
    server: Server, content: str | None
) -> None:
    # None: from servers that keep thoughts apart themselves.
    server.reply = told(content, "length")
    with pytest.raises(RuntimeError, match=r"not answer 'what' .*still thinking at the limit"):
        Endpoint(server.url, "fovea").answer_batch([(None, "what")])


def test_an_answer_may_be_empty_or_cut(server: Server) -> None:
    endpoint = Endpoint(server.url, "fovea")
    for content, finish in (("", "stop"), ("", "length"), ("A red circle and a", "length")):
        server.reply = told(content, finish)
        assert endpoint.answer_batch([(None, "what")]) == [content]


def test_a_judge_s_cut_replies_are_told(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    server.reply = told("Let me see whether it is correct or", "length")
    pairs = [(None, "one"), (None, "two")]
    Endpoint(server.url, "fovea").answer_batch(pairs, max_new_tokens=7)
    assert not caplog.records
    Endpoint(server.url, "fovea", thinking=False).answer_batch(pairs, max_new_tokens=7)
    assert "2 of 2 replies are cut at 7 tokens ('one')" in caplog.text


def test_a_model_is_told_not_to_think(server: Server) -> None:
    Endpoint(server.url, "fovea").answer_batch([(None, "what")])
    Endpoint(server.url, "fovea", thinking=False).answer_batch([(None, "what")])
    assert [body.get("chat_template_kwargs") for body in server.bodies] == [
        None, {"enable_thinking": False}
    ]  # fmt: skip


@pytest.mark.parametrize("status", [400, 422])
def test_a_server_that_does_not_know_the_word_is_asked_without(server: Server, status: int) -> None:
    server.unknown = status, "Unrecognized request argument supplied: chat_template_kwargs"
    endpoint = Endpoint(server.url, "fovea", thinking=False)
    server.together = threading.Barrier(2)  # both are refused before either is asked again
    assert endpoint.answer_batch([(None, "one"), (None, "two")]) == ["one", "two"]
    server.together = threading.Barrier(1)
    assert endpoint.answer_batch([(None, "three")]) == ["three"]
    assert ["chat_template_kwargs" in body for body in server.bodies] == [True, True, *3 * [False]]


def test_another_refusal_is_no_such(server: Server) -> None:
    server.unknown = 400, "the prompt is too long"
    with pytest.raises(RuntimeError, match="prompt is too long"):
        Endpoint(server.url, "fovea", thinking=False).answer_batch([(None, "what")])
    assert len(server.bodies) == 1
