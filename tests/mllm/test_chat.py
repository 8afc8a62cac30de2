import json
import os
import subprocess
import sys
import threading

import pytest
from transformers import LlavaForConditionalGeneration

from mllm.answerer import question_message
from mllm.chat import Chat
from tests.tiny_llava import picture

# Plain transformers, in an interpreter that cannot import this project.
PLAIN = """
import json, sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("mllm", "vision_tower", "training", "eval", "scripts"):
            raise ImportError(name + " is hidden")

sys.meta_path.insert(0, Hidden())
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor
directory, image, question = sys.argv[1:]
model = AutoModelForImageTextToText.from_pretrained(directory)
processor = AutoProcessor.from_pretrained(directory)
content = [{"type": "image", "image": Image.open(image)}, {"type": "text", "text": question}]
inputs = processor.apply_chat_template(
    [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=True,
    return_dict=True, return_tensors="pt",
)
out = model.generate(**inputs, max_new_tokens=12)[0, inputs["input_ids"].shape[1]:]
print(json.dumps(processor.decode(out, skip_special_tokens=True).strip()))
"""


@pytest.fixture(scope="module")
def chat(llava):
    return Chat(llava, device="cpu")


def test_answers_equal_plain_transformers_without_this_project(chat, llava, tmp_path):
    picture(5).save(tmp_path / "p.png")
    done = subprocess.run(
        [sys.executable, "-c", PLAIN, llava, tmp_path / "p.png", "what is in the picture"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    ours = chat.answer(picture(5), "what is in the picture", max_new_tokens=12)
    assert json.loads(done.stdout.splitlines()[-1]) == ours
    assert ours


def test_a_batch_answers_like_one_by_one(chat):
    pairs = [
        (picture(1), "what is in the picture"),
        (None, "how many objects are there"),
        (picture(2), "yes"),
    ]
    together = chat.answer_batch(pairs, max_new_tokens=10)
    assert together == [chat.answer(*pair, max_new_tokens=10) for pair in pairs]


def test_another_picture_gives_other_logits(chat):
    def logits(image):
        return chat.model(**chat._inputs([[question_message(image, "what")]])).logits

    assert not logits(picture(1)).allclose(logits(picture(2)))


def test_the_stream_adds_up_to_the_answer(chat):
    pieces = list(chat.stream([question_message(picture(3), "what")], max_new_tokens=10))
    assert len(pieces) > 1
    assert "".join(pieces).strip() == chat.answer(picture(3), "what", max_new_tokens=10)


def test_a_closed_stream_stops_its_thread(chat):
    before = threading.active_count()
    stream = chat.stream([question_message(None, "what")], max_new_tokens=400)
    next(stream)
    stream.close()
    assert threading.active_count() == before


def test_an_error_while_generating_reaches_the_caller(chat, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(chat.model, "generate", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        list(chat.stream([question_message(None, "what")]))


def test_what_is_no_llava_is_refused(parts, tmp_path):
    with pytest.raises(ValueError, match="holds a 'llama' model, not LLaVA"):
        Chat(parts[2])
    with pytest.raises(ValueError, match=r"has no config\.json"):
        Chat(tmp_path)


def test_a_directory_without_template_is_refused(llava, tmp_path):
    LlavaForConditionalGeneration.from_pretrained(llava).save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json", "processor_config.json"):
        (tmp_path / name).write_bytes((llava / name).read_bytes())
    with pytest.raises(ValueError, match=r"no chat_template\.jinja"):
        Chat(tmp_path)
