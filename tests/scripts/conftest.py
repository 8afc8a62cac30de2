"""A web server on this machine, whose faults a test sets, for what fetches files."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import huggingface_hub.constants
import pytest
from huggingface_hub.utils import close_session


class FileServer(ThreadingHTTPServer):
    """`files`: path -> bytes. `asked`: method, path and range of each request, in order.

    ranges, heads: whether Range and HEAD are understood. cut: the next answer ends after so many
    bytes. stuck: it does not even end. statuses, moved: path -> status, other address.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, str, str | None]] = []
        self.ranges = self.heads = True
        self.cut: int | None = None
        self.stuck = threading.Event()
        self.released = threading.Event()
        self.statuses: dict[str, int] = {}
        self.moved: dict[str, str] = {}
        self.version = "1"
        self.extra: dict[str, str] = {}

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"

    @property
    def gets(self) -> list[tuple[str, str | None]]:
        return [(path, start) for method, path, start in self.asked if method == "GET"]


class Handler(BaseHTTPRequestHandler):
    server: FileServer

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, body: bool) -> None:
        path, there = self.path.partition("?")[0], self.server
        there.asked.append((self.command, path, self.headers["Range"]))
        if path in there.moved:
            self.send_response(302)
            self.send_header("Location", there.moved[path])
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        status = there.statuses.get(path, 200 if path in there.files else 404)
        if not (body or there.heads):
            status = 405
        content = there.files.get(path, b"") if status == 200 else b""
        start = 0
        if body and there.ranges and self.headers["Range"] and status == 200:
            start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
            status = 206 if start < len(content) else 416
        self.send_response(status)
        self.send_header("Content-Length", str(len(content) - start))
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("ETag", f'"{there.version}"')
        for name, value in there.extra.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.write(content[start:])

    def write(self, content: bytes) -> None:
        there = self.server
        if there.cut is None:
            self.wfile.write(content)
            return
        self.wfile.write(content[: there.cut])
        self.wfile.flush()
        there.cut = None
        if there.stuck.is_set():
            there.released.wait(60)
        self.close_connection = True


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch):
    """The server, reached without a proxy, though these tests may run with the hub offline."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    # A piece as large as the library's own holds all of these files.
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("time.sleep", lambda _: None)
    close_session()
    with FileServer() as found:
        thread = threading.Thread(target=found.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield found
        found.released.set()
        found.shutdown()
    close_session()
