"""The figures scripts/filter_edits.py filters by: computed with a tower, or the data set's own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2.functional import pil_to_tensor, to_dtype
from tqdm import tqdm

from scripts.edit_shard import Row, Shard
from vision_tower.captions import Captions
from vision_tower.edits import Edits
from vision_tower.images import Stored, decode
from vision_tower.similarity import edit_similarities, structural_similarity
from vision_tower.towers import Tower

SCORES = ("clip_sim_source", "clip_sim_target", "clip_sim_dir", "clip_sim_image", "ssim")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A pair as a tower takes it, source first, and what needs no tower."""

    images: tuple[Tensor, Tensor]
    captions: tuple[str, str]
    files: set[str]
    ssim: float


class PreparedPairs(Dataset):
    """The pairs `rows`; pictures are decoded here, in workers."""

    def __init__(self, edits: Edits, rows: Sequence[int], tower: Tower) -> None:
        self.edits, self.rows, self.preprocess = edits, rows, tower.preprocess

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Prepared | str:
        """A pair, or what is wrong with one that cannot be read."""
        try:
            return self._prepared(index)
        except ValueError as error:
            return str(error)

    def _prepared(self, index: int) -> Prepared:
        pair = self.edits[self.rows[index]]
        _, _, stored = self.edits.stored(self.rows[index])
        # Some editors return another size than they were given.
        pictures = (pair.source_image, pair.edited_image.resize(pair.source_image.size))
        values = [to_dtype(pil_to_tensor(p), torch.float32, scale=True) for p in pictures]
        try:
            ssim = structural_similarity(*values)
        except ValueError as error:
            raise ValueError(f"{pair.row}: {error}") from error
        return Prepared(
            images=(self.preprocess(pair.source_image), self.preprocess(pair.edited_image)),
            captions=(pair.source_caption, pair.edited_caption),
            files=file_names(stored.source_image) | file_names(stored.edited_image),
            ssim=ssim,
        )


def file_names(stored: Stored) -> set[str]:
    """The name of a picture's file, if its data set tells one."""
    path = stored["path"] if isinstance(stored, dict) else stored
    return {Path(path).name} if path and not isinstance(path, bytes) else set()


class HeldOut:
    """Pictures that training must not see: unit features [N, D], and the names of their files."""

    def __init__(self, captions: Captions, tower: Tower, batch_size: int) -> None:
        rows = [captions.stored(row) for row in range(len(captions))]
        self.files = {row.image.name for row in rows if isinstance(row.image, Path)}
        features = []
        for start in tqdm(range(0, len(rows), batch_size), "held-out pictures"):
            some = rows[start : start + batch_size]
            images = [tower.preprocess(decode(row.image, row.row)) for row in some]
            features.append(_embedded(tower, images))
        self.image_ND = torch.cat(features)

    def similarity(self, files: set[str], image_2D: Tensor) -> float:
        """The largest cosine of either picture of a pair with any here; 1 for a common file."""
        return 1.0 if self.files & files else float((image_2D @ self.image_ND.T).max())


def computed(
    shard: Shard, pending: Sequence[int], tower: Tower, held_out: HeldOut | None, workers: int
) -> Iterator[list[Row]]:
    """Scores by a tower, a batch at a time; of a pair that cannot be read, its "problem"."""
    loader = DataLoader(
        PreparedPairs(shard.edits, pending, tower),
        batch_size=shard.batch_size,
        num_workers=workers,
        collate_fn=list,  # pairs as they are: pictures and captions are stacked over both sides
    )
    ids = (shard.ids[row] for row in pending)
    for found in loader:
        told = {name: pair for pair, name in zip(found, ids, strict=False)}
        pairs = {name: pair for name, pair in told.items() if isinstance(pair, Prepared)}
        broken = {name: problem for name, problem in told.items() if isinstance(problem, str)}
        rows = [{"id": name, "problem": problem} for name, problem in broken.items()]
        yield rows + (_scored(pairs, tower, held_out) if pairs else [])


def _scored(pairs: dict[str, Prepared], tower: Tower, held_out: HeldOut | None) -> list[Row]:
    image_B2D = _embedded(tower, [image for pair in pairs.values() for image in pair.images])
    image_B2D = image_B2D.unflatten(0, (-1, 2))
    text_B2D = _embedded_texts(tower, [text for pair in pairs.values() for text in pair.captions])
    text_B2D = text_B2D.unflatten(0, (-1, 2))
    figures = edit_similarities(*image_B2D.unbind(1), *text_B2D.unbind(1))
    rows = []
    for number, (name, pair) in enumerate(pairs.items()):
        scores = {figure: float(values[number]) for figure, values in figures.items()}
        scores["ssim"] = pair.ssim
        if held_out is not None:
            scores["held_out_sim"] = held_out.similarity(pair.files, image_B2D[number])
        rows.append({"id": name} | {figure: round(v, 6) for figure, v in scores.items()})
    return rows


def published(shard: Shard, pending: Sequence[int]) -> Iterator[list[Row]]:
    """Scores that the data set itself has, a pair at a time.

    Raises ValueError for a pair without all of UltraEdit's columns.
    """
    for row in pending:
        values = shard.edits.values(row)
        missing = [name for name in SCORES if values.get(name) is None]
        if missing:
            raise ValueError(
                f"{shard.ids[row]} has no {', '.join(missing)}: give a --tower to compute them, "
                "ViT-L-14-quickgelu:openai for the default thresholds."
            )
        yield [{"id": shard.ids[row]} | {name: float(values[name]) for name in SCORES}]


@torch.inference_mode()
def _embedded(tower: Tower, images: Sequence[Tensor]) -> Tensor:
    return tower.encode_image(torch.stack(list(images)).to(tower.logit_scale.device), True)


@torch.inference_mode()
def _embedded_texts(tower: Tower, texts: list[str]) -> Tensor:
    return tower.encode_text(tower.tokenizer(texts).to(tower.logit_scale.device), True)
