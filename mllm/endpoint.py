"""Asking a model behind an OpenAI-compatible endpoint (vLLM, SGLang), greedily."""

from __future__ import annotations

import base64
import io
import logging
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
from PIL import Image

from mllm.answerer import THOUGHTS, Question, without_thoughts

logger = logging.getLogger(__name__)

KEY = "OPENAI_API_KEY"
BUSY = {429, 500, 502, 503, 504}
# vLLM's and SGLang's own field; OpenAI and others refuse what they do not know.
TEMPLATE = "chat_template_kwargs"
UNKNOWN_FIELD = {400, 422}


class Endpoint:
    """A vision-language model that answers questions elsewhere, with or without a picture.

    Questions of a batch are asked at the same time: the server makes batches of them, and keeps
    what questions about one picture share (vLLM and SGLang do).
    """

    dtype = None  # the server's affair

    def __init__(
        self,
        url: str,
        model: str,
        *,
        thinking: bool = True,
        pauses: Sequence[float] = (1, 2, 4, 8, 16),
    ) -> None:
        """
        Args:
            url: up to and with /v1. The key, where one is needed, is $OPENAI_API_KEY.
            model: the name that the server gave it.
            thinking: whether the model may think aloud before it answers. If not, it is asked for
                the answer alone, where the server knows how, and a cut reply is warned of.
            pauses: seconds to wait before a question is asked again, while there is no connection
                or the server says that it is busy or broken.

        Raises ValueError if `url` is no address, or holds a password.
        """
        address = httpx2.URL(url)
        if address.scheme not in ("http", "https") or not address.host:
            raise ValueError(f"{url}: no address of an endpoint; give http://host:port/v1.")
        if address.userinfo:
            raise ValueError(f"{address.host}: leave the password out of the address, use ${KEY}.")
        self.url, self.model, self.pauses = url.rstrip("/"), model, pauses
        self.thinking = thinking
        self._template = {} if thinking else {TEMPLATE: {"enable_thinking": False}}
        key = os.environ.get(KEY)
        self._client = httpx2.Client(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx2.Timeout(600, connect=10),  # a batch may stand in a queue
            limits=httpx2.Limits(max_connections=None),
        )

    def answer_batch(self, pairs: Sequence[Question], *, max_new_tokens: int = 256) -> list[str]:
        """Answers to several questions, asked at once; pictures and pure text may be mixed.

        Raises RuntimeError, with the question, if the server does not answer it, or the model is
        cut while it thinks.
        """
        pictures = {id(image): image for image, _ in pairs if image is not None}
        urls = {name: data_url(image) for name, image in pictures.items()}
        with ThreadPoolExecutor(max_workers=len(pairs)) as threads:
            asked = [
                threads.submit(self._answer, urls.get(id(image)), text, max_new_tokens)
                for image, text in pairs
            ]
            try:
                said = [answer.result() for answer in asked]
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                raise
        cut = [text for (_, text), (_, whole) in zip(pairs, said, strict=True) if not whole]
        if cut and not self.thinking:
            logger.warning(
                "%s: %d of %d replies are cut at %d tokens (%r); read them: a model that thinks "
                "all the same has said nothing by then, and its server can tell (vLLM's and "
                "SGLang's --reasoning-parser).",
                *(self.url, len(cut), len(pairs), max_new_tokens, cut[0][:80]),
            )
        return [answer for answer, _ in said]

    def _answer(self, picture: str | None, text: str, max_new_tokens: int) -> tuple[str, bool]:
        """The answer, and whether the model had ended it."""
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
            choice = self._post(body).json()["choices"][0]
            said, cut = choice["message"]["content"], choice.get("finish_reason") == "length"
            if cut and said is None:  # the server keeps thoughts apart, and there was no more
                said = THOUGHTS
            if not isinstance(said, str):
                raise ValueError(f"the answer is {said!r}")
            return without_thoughts(said), not cut
        except (httpx2.HTTPError, ValueError, LookupError, TypeError) as error:
            raise RuntimeError(
                f"{self.url} does not answer {text!r} ({type(error).__name__}: {error})"
            ) from error

    def _post(self, body: dict[str, Any]) -> httpx2.Response:
        pauses = iter(self.pauses)
        while True:
            template = self._template
            try:
                response = self._client.post(f"{self.url}/chat/completions", json=body | template)
                if response.is_success:
                    return response
                if template and response.status_code in UNKNOWN_FIELD and TEMPLATE in response.text:
                    self._template = {}
                    continue
                passing = response.status_code in BUSY
                told = f"{response.status_code} {response.text[:300]}"
                failure = httpx2.HTTPStatusError(told, request=response.request, response=response)
            except httpx2.TransportError as error:
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
