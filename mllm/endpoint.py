"""Asking a model behind an OpenAI-compatible endpoint (vLLM, SGLang), greedily."""

from __future__ import annotations

import base64
import io
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
from PIL import Image

from mllm.answerer import Question

KEY = "OPENAI_API_KEY"
BUSY = {429, 500, 502, 503, 504}


class Endpoint:
    """A vision-language model that answers questions elsewhere, with or without a picture.

    Questions of a batch are asked at the same time: the server makes batches of them, and keeps
    what questions about one picture share (vLLM and SGLang do).
    """

    def __init__(self, url: str, model: str, *, pauses: Sequence[float] = (1, 2, 4, 8, 16)) -> None:
        """
        Args:
            url: up to and with /v1. The key, where one is needed, is $OPENAI_API_KEY.
            model: the name that the server gave it.
            pauses: seconds to wait before a question is asked again, while there is no connection
                or the server says that it is busy or broken.

        Raises ValueError if `url` is no address, or holds a password.
        """
        address = httpx.URL(url)
        if address.scheme not in ("http", "https") or not address.host:
            raise ValueError(f"{url}: no address of an endpoint; give http://host:port/v1.")
        if address.userinfo:
            raise ValueError(f"{address.host}: leave the password out of the address, use ${KEY}.")
        self.url, self.model, self.pauses = url.rstrip("/"), model, pauses
        key = os.environ.get(KEY)
        self._client = httpx.Client(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(600, connect=10),  # a batch may stand in a queue
            limits=httpx.Limits(max_connections=None),
        )

    def answer_batch(self, pairs: Sequence[Question], *, max_new_tokens: int = 256) -> list[str]:
        """Answers to several questions, asked at once; pictures and pure text may be mixed.

        Raises RuntimeError, with the question, if the server does not answer it.
        """
        pictures = {id(image): image for image, _ in pairs if image is not None}
        urls = {name: data_url(image) for name, image in pictures.items()}
        with ThreadPoolExecutor(max_workers=len(pairs)) as threads:
            asked = [
                threads.submit(self._answer, urls.get(id(image)), text, max_new_tokens)
                for image, text in pairs
            ]
            try:
                return [answer.result() for answer in asked]
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                raise

    def _answer(self, picture: str | None, text: str, max_new_tokens: int) -> str:
        content: list[dict[str, Any]] = [{"type": "text", "text": text}]
        if picture is not None:
            content.insert(0, {"type": "image_url", "image_url": {"url": picture}})
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": content}],
            "temperature": 0,
            "max_tokens": max_new_tokens,
        }
        try:
            said = self._post(body).json()["choices"][0]["message"]["content"]
            if not isinstance(said, str):
                raise ValueError(f"the answer is {said!r}")
        except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
            raise RuntimeError(
                f"{self.url} does not answer {text!r} ({type(error).__name__}: {error})"
            ) from error
        return said.strip()

    def _post(self, body: dict[str, Any]) -> httpx.Response:
        pauses = iter(self.pauses)
        while True:
            try:
                response = self._client.post(f"{self.url}/chat/completions", json=body)
                if response.is_success:
                    return response
                passing = response.status_code in BUSY
                told = f"{response.status_code} {response.text[:300]}"
                failure = httpx.HTTPStatusError(told, request=response.request, response=response)
            except httpx.TransportError as error:
                passing, failure = True, error
            pause = next(pauses, None) if passing else None
            if pause is None:
                raise failure
            time.sleep(pause)


def data_url(image: Image.Image) -> str:
    """The picture in the address itself, without loss."""
    file = io.BytesIO()
    image.save(file, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
