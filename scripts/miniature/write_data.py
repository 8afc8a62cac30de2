"""Write the miniature's data to disk in the public formats, for the same loaders as the real data.

    python scripts/miniature/write_data.py out/miniature/data

    edits/       train-*.parquet, heldout.parquet      UltraEdit's columns, pictures as bytes
    captions/    share-captioner.json, heldout.json    ShareGPT4V; pictures under images/
    conversations/ pretrain.json, finetune.json        LLaVA; pictures are those of captions/
    pope/ mmvp/ chair/ mmvp_vlm/                       each benchmark in its official layout

Training data come from scenes on one side of a hash split, benchmarks from the other. The files are
a function of the seed alone. A folder that holds ``complete`` is left as it is.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
from tqdm import tqdm

from scripts.miniature import language, questions
from scripts.miniature.benchmark_data import write_benchmarks
from scripts.miniature.render import render
from scripts.miniature.sizes import Sizes
from scripts.miniature.world import EDITS, Edit, Scene, random_edit, random_scene_of

CHUNK = 500  # rows a worker makes at a time; seeds belong to chunks, so workers change nothing
COMPLETE = "complete"  # written last; says what was asked for
TEXT_ONLY_SHARE, DESCRIPTION_SHARE = 0.1, 0.1


def png(scene: Scene, generator: np.random.Generator) -> bytes:
    buffer = io.BytesIO()
    render(scene, generator).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _edit_row(edit: Edit, index: int, generator: np.random.Generator) -> dict[str, object]:
    pictures = {
        f"{name}_image": {"bytes": png(scene, generator), "path": f"{index:07d}_{name}.png"}
        for name, scene in (("source", edit.source), ("edited", edit.target))
    }
    return {
        **pictures,
        "idx": index,
        "edit_prompt": edit.instruction,
        "source_caption": language.edit_caption(edit, edit.source),
        "target_caption": language.edit_caption(edit, edit.target),
        "edit_type": edit.kind,
    }


def _edits_chunk(seed: int, start: int, count: int, path: Path, held_out: bool) -> None:
    """Write rows ``start`` to ``start + count`` of the edit pairs, the kinds in turn."""
    rng, generator = random.Random(f"{seed} {path.name}"), np.random.default_rng([seed, start])
    kinds = list(EDITS)
    rows = [
        _edit_row(random_edit(rng, kinds[index % len(kinds)], held_out), index, generator)
        for index in range(start, start + count)
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def _pictures_chunk(seed: int, start: int, count: int, folder: Path, held_out: bool) -> list[Scene]:
    rng = random.Random(f"{seed} {held_out} {start}")
    generator = np.random.default_rng([seed, start, int(held_out)])
    scenes = [random_scene_of(rng, held_out) for _ in range(count)]
    for index, scene in enumerate(scenes, start):
        (folder / _picture_name(index, held_out)).write_bytes(png(scene, generator))
    return scenes


def _picture_name(index: int, held_out: bool) -> str:
    return f"{'heldout' if held_out else 'train'}_{index:06d}.png"


def _chunks(total: int) -> list[tuple[int, int]]:
    """Start and length of each chunk."""
    return [(start, min(CHUNK, total - start)) for start in range(0, total, CHUNK)]


def _run(executor: ProcessPoolExecutor, title: str, jobs: Iterable[Callable]) -> list:
    futures = [executor.submit(job) for job in jobs]
    return [future.result() for future in tqdm(futures, title)]


def _turn(speaker: str, value: str) -> dict[str, str]:
    return {"from": speaker, "value": value}


def _conversation(turns: list[tuple[str, str]], prefix: str = "<image>\n") -> list[dict[str, str]]:
    """LLaVA's turns; ``prefix`` goes before the first request."""
    speakers = [_turn(*pair) for t in turns for pair in zip(("human", "gpt"), t, strict=True)]
    speakers[0]["value"] = prefix + speakers[0]["value"]
    return speakers


def _caption_row(name: str, scene: Scene, rng: random.Random) -> dict[str, object]:
    turns = [(language.DETAIL_REQUEST, language.long_caption(scene, rng))]
    return {"id": name, "image": f"images/{name}", "conversations": _conversation(turns)}


def _brief_row(name: str, scene: Scene, rng: random.Random) -> dict[str, object]:
    turns = [(rng.choice(language.BRIEF_REQUESTS), language.brief_caption(scene, rng))]
    return {"id": name, "image": name, "conversations": _conversation(turns)}


def _instruction_row(name: str, scene: Scene, rng: random.Random) -> dict[str, object]:
    """A dialogue about the picture, its description, or a dialogue about a text."""
    draw = rng.random()
    if draw < TEXT_ONLY_SHARE:
        text = language.brief_caption(scene, rng) + "\n"
        turns = _conversation(questions.dialogue(scene, rng), prefix=text)
        return {"id": f"text_{name}", "conversations": turns}
    if draw < TEXT_ONLY_SHARE + DESCRIPTION_SHARE:
        # Not the long caption: a language model that has never written one learns to babble.
        request = rng.choice((language.DETAIL_REQUEST, *language.BRIEF_REQUESTS))
        turns = [(request, language.brief_caption(scene, rng))]
    else:
        turns = questions.dialogue(scene, rng)
    return {"id": name, "image": name, "conversations": _conversation(turns)}


def _write_json(path: Path, rows: list[dict[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows, indent=1))


def _write_edits(executor: ProcessPoolExecutor, folder: Path, seed: int, sizes: Sizes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [
        partial(
            _edits_chunk, seed, start, count, folder / f"train-{start // CHUNK:05d}.parquet", False
        )
        for start, count in _chunks(sizes.edit_pairs)
    ]
    held_out = sizes.held_out_pairs_per_kind * len(EDITS)
    jobs.append(partial(_edits_chunk, seed, 0, held_out, folder / "heldout.parquet", True))
    _run(executor, "edit pairs", jobs)


def _write_captions(executor: ProcessPoolExecutor, root: Path, seed: int, sizes: Sizes) -> None:
    images = root / "captions" / "images"
    images.mkdir(parents=True, exist_ok=True)
    for title, held_out, total, path in (
        ("pictures", False, sizes.pictures, "share-captioner.json"),
        ("held-out pictures", True, sizes.held_out_pictures, "heldout.json"),
    ):
        jobs = [
            partial(_pictures_chunk, seed, start, count, images, held_out)
            for start, count in _chunks(total)
        ]
        scenes = [scene for chunk in _run(executor, title, jobs) for scene in chunk]
        named = [(_picture_name(index, held_out), scene) for index, scene in enumerate(scenes)]
        rng = random.Random(f"{seed} {title}")
        rows = [_caption_row(name, scene, rng) for name, scene in named]
        _write_json(root / "captions" / path, rows)
        if not held_out:
            conversations = root / "conversations"
            brief = [_brief_row(name, scene, rng) for name, scene in named]
            _write_json(conversations / "pretrain.json", brief)
            instructions = [_instruction_row(name, scene, rng) for name, scene in named]
            _write_json(conversations / "finetune.json", instructions)


def write_data(root: Path, seed: int, sizes: Sizes) -> None:
    with ProcessPoolExecutor() as executor:
        _write_edits(executor, root / "edits", seed, sizes)
        _write_captions(executor, root, seed, sizes)
    write_benchmarks(root, seed, sizes)
    (root / COMPLETE).write_text(_asked_for(seed, sizes))


def _asked_for(seed: int, sizes: Sizes) -> str:
    return json.dumps({"seed": seed} | asdict(sizes), indent=1) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("root", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    complete, sizes = arguments.root / COMPLETE, Sizes()
    if not complete.exists():
        write_data(arguments.root, arguments.seed, sizes)
    elif complete.read_text() == _asked_for(arguments.seed, sizes):
        print(f"{arguments.root} is complete: nothing to write.")
    else:
        sys.exit(
            f"{arguments.root} holds data of another seed or size: remove it, or name another."
        )


if __name__ == "__main__":
    main()
