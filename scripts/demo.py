"""Chat with a LLaVA directory in the browser, on this machine alone.

    python scripts/demo.py out/miniature/mllm [--port 7860] [--device cpu]

One process, bound to 127.0.0.1, pictures by upload only, nothing sent anywhere. The model is
trained on one picture per conversation: a new picture starts a new one.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.themes import Base
from PIL import Image, UnidentifiedImageError
from transformers.image_utils import load_image

from mllm.answerer import Message, question_message
from mllm.chat import Chat

logger = logging.getLogger("demo")

NOT_A_CHAT_MODEL = (
    "**This checkpoint is out of stage 3: only its projector has learned, it is not a chat "
    "model.** Expect captions at best, and run `bash scripts/finetune.sh` for stage 4."
)

NO_ANSWER = "⚠ **No answer.**"


class QuestionError(ValueError):
    """What was asked cannot be handed to the model."""


def build_app(chat: Chat, directory: str, max_new_tokens: int = 512) -> gr.ChatInterface:
    """The chat page. Answers stream; what goes wrong is shown as it is, to the machine's owner."""

    def respond(message: dict[str, Any], history: list[dict[str, Any]]) -> Iterator[str]:
        answer = ""
        try:
            messages = to_messages([*history, *_as_turns(message)])
            for piece in chat.stream(messages, max_new_tokens=max_new_tokens):
                answer += piece
                yield answer
        except Exception as error:
            # Raised, it would leave gradio's text box locked until the page is loaded again (6.31).
            logger.exception("no answer")
            yield f"{NO_ANSWER} {type(error).__name__}: {error}"
        else:
            if not answer.strip():
                yield f"{NO_ANSWER} The model ended it at once."

    return gr.ChatInterface(
        respond,
        multimodal=True,
        title=f"Fovea: {Path(directory).name}",
        description=NOT_A_CHAT_MODEL if is_stage_3(directory) else f"`{directory}`",
        # The stock buttons would offer to share the conversation on a web site.
        chatbot=gr.Chatbot(show_label=False, buttons=["copy"], height="65vh"),
        textbox=gr.MultimodalTextbox(
            file_types=["image"],
            file_count="single",
            sources=["upload"],
            placeholder="Ask something; add a picture with the clip on the left.",
        ),
        api_name="chat",
        analytics_enabled=False,
    )


def is_stage_3(directory: str) -> bool:
    """Whether the directory says that it was made by training/pretrain_projector.py."""
    record = Path(directory) / "recipe.json"
    if not record.is_file():
        return False
    return json.loads(record.read_text(encoding="utf-8")).get("stage") == "PretrainProjector"


def _as_turns(message: dict[str, Any]) -> list[dict[str, Any]]:
    """What the text box sends ({"text", "files"}) in the form the history has."""
    files = [{"path": path} for path in message["files"]]
    return [{"role": "user", "content": [*files, message["text"]]}]


def _split(content: str | list[Any]) -> tuple[list[str], str]:
    """The files and the text of one turn; its items are typed in the page, bare through the API."""
    files, texts = [], []
    for item in [content] if isinstance(content, str) else content:
        if isinstance(item, str):
            texts.append(item)
        elif "path" in item:
            files.append(item["path"])
        elif item["type"] == "file":
            files.append(item["file"]["path"])
        elif item["type"] == "text":
            texts.append(item["text"])
    return files, " ".join(texts)


def to_messages(history: list[dict[str, Any]]) -> list[Message]:
    """Gradio's history as chat messages, from the newest picture on.

    Gradio splits one question into several user turns (a file, a text); they are joined again.
    A question that got no answer is forgotten.

    Raises:
        QuestionError: a file that is no picture, or a question without words.
    """
    turns: list[tuple[str, list[str], str]] = []  # role, picture files, text
    for entry in history:
        files, text = _split(entry["content"])
        if text.startswith(NO_ANSWER):
            turns.pop()
            continue
        if turns and turns[-1][0] == entry["role"]:
            role, earlier, words = turns.pop()
            files, text = earlier + files, f"{words} {text}"
        turns.append((entry["role"], files, text.strip()))
    if not turns[-1][2]:
        raise QuestionError("Ask something about the picture.")
    newest = max((place for place, turn in enumerate(turns) if turn[1]), default=0)
    messages = []
    for role, files, text in turns[newest:]:
        image = _open(files[-1]) if files else None
        message = question_message(image, text)
        messages.append(message if role == "user" else {"role": "assistant", "content": text})
    return messages


def _open(path: str) -> Image.Image:
    try:
        return load_image(path)
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        why = type(error).__name__
        name = Path(path).name
        raise QuestionError(f"{name} cannot be read as a picture ({why}).") from error


def launch(app: gr.ChatInterface, port: int, *, block: bool = True) -> str:
    """Serve on 127.0.0.1; returns the address (at once if not `block`)."""
    _, address, _ = app.launch(
        server_name="127.0.0.1",
        server_port=port,
        share=False,
        inbrowser=False,
        ssr_mode=False,
        show_error=True,
        max_file_size="20mb",
        theme=Base(font=["sans-serif"], font_mono=["monospace"]),
        prevent_thread_lock=not block,
    )
    return address


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("directory", help="LLaVA directory, out of training/finetune.py")
    parser.add_argument("--port", type=int, default=7860, help="of 127.0.0.1 (default: 7860)")
    parser.add_argument("--device", default=None, help="cuda, cpu, … (default: a GPU if any)")
    parser.add_argument("--max_new_tokens", type=int, default=512, help="an answer's bound (512)")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        chat = Chat(arguments.directory, arguments.device)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    if is_stage_3(arguments.directory):
        logger.warning(NOT_A_CHAT_MODEL.replace("**", ""))
    launch(build_app(chat, arguments.directory, arguments.max_new_tokens), arguments.port)


if __name__ == "__main__":
    main()
