"""Models by their names: how those behind an endpoint are asked."""

from __future__ import annotations

from eval.asking import Judge, Subject
from mllm.endpoint import Endpoint


def test_a_judge_is_asked_not_to_think_and_a_model_is_left_as_it_is() -> None:
    for kind, thinking in ((Judge, False), (Subject, True)):
        opened = kind("fovea", "http://127.0.0.1:9/v1").open()
        assert isinstance(opened, Endpoint)
        assert opened.thinking is thinking
