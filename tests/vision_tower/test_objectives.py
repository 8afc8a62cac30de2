import datetime
import socket

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn import functional as F

from tests.tiny_tower import sentence, write_tower
from vision_tower.grad_cache import set_random_state, shares
from vision_tower.losses import (
    EditFeatures,
    Sigmoid,
    Softmax,
    clip_loss,
    image_anchored_loss,
    source_anchored_loss,
    symmetric_loss,
)
from vision_tower.objectives import ContrastiveObjective, DistillationObjective
from vision_tower.towers import load_tower

PARTS = ("short", "long", "hard_negative")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_tower(tmp_path_factory.mktemp("tower"))


def rotary(base):
    torch.manual_seed(0)
    return load_tower(str(base)).with_rotary_text(248, 10000.0)


def batch_of(tower, captions=4, pairs=2):
    rng, rows = np.random.default_rng(0), captions + 2 * pairs
    return {
        "pixel_values": torch.randn(rows, 3, 16, 16, generator=torch.Generator().manual_seed(0)),
        "short_tokens": tower.tokenizer([sentence(rng, 5) for _ in range(rows)]),
        "long_tokens": tower.tokenizer([sentence(rng, 90) for _ in range(captions)]),
    }


def losses_of(objective, batch):
    return objective.losses(objective(**batch))


def test_losses_are_those_of_the_features(base):
    tower = rotary(base)
    batch = batch_of(tower)
    objective = ContrastiveObjective(tower, short=1.0, long=0.5, hard_negative=2.0)
    told = losses_of(objective, batch)
    image = F.normalize(tower.visual(batch["pixel_values"]), dim=1)
    text = F.normalize(tower.text(batch["short_tokens"]), dim=1)
    long = F.normalize(tower.text(batch["long_tokens"]), dim=1)
    scale = tower.logit_scale.exp().squeeze()
    expected = {
        "short": clip_loss(image[:4], text[:4], Softmax(scale)),
        "long": clip_loss(image[:4], long, Softmax(scale)),
        "hard_negative": symmetric_loss(
            EditFeatures(image[4:6], image[6:], text[4:6], text[6:]), Softmax(scale)
        ),
    }
    for name, value in expected.items():
        torch.testing.assert_close(told[name], value)
    total = expected["short"] + 0.5 * expected["long"] + 2 * expected["hard_negative"]
    torch.testing.assert_close(told["loss"], total)
    assert told["logit_scale"].item() == pytest.approx(scale.item())


@pytest.mark.parametrize(
    "wanted", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (0, 1, 1), (1, 0, 1)]
)
def test_a_part_of_weight_0_costs_nothing(base, wanted):
    tower = rotary(base)
    batch, rows = batch_of(tower), {"visual": 0, "text": 0}

    def count(module, args):
        rows["text" if module is tower.text else "visual"] += len(args[0])

    for module in (tower.visual, tower.text):
        module.register_forward_pre_hook(count)
    told = losses_of(ContrastiveObjective(tower, *map(float, wanted)), batch)
    short, long, hard_negative = wanted
    assert {name for name in PARTS if name in told} == {
        name for name, weight in zip(PARTS, wanted, strict=True) if weight
    }
    assert rows["visual"] == 4 * max(short, long) + 4 * hard_negative
    assert rows["text"] == 4 * short + 4 * long + 4 * hard_negative
    full = losses_of(ContrastiveObjective(rotary(base)), batch)
    for name in told.keys() - {"loss"}:
        torch.testing.assert_close(told[name], full[name])
    told["loss"].backward()
    assert tower.logit_scale.grad is not None


@pytest.mark.parametrize("weights", [(0, 0, 0), (1, -1, 1)])
def test_weights_that_train_nothing_are_refused(base, weights):
    with pytest.raises(ValueError, match="must be >= 0"):
        ContrastiveObjective(rotary(base), *map(float, weights))


def test_bf16_autocast_keeps_the_logits_in_fp32(base):
    tower = rotary(base)
    objective, batch = ContrastiveObjective(tower), batch_of(tower)
    with torch.autocast("cpu", torch.bfloat16):
        told = losses_of(objective, batch)
    assert told["loss"].dtype == torch.float32
    torch.testing.assert_close(told["loss"], losses_of(objective, batch)["loss"], rtol=2e-2, atol=0)


def test_distillation_starts_at_the_positions_alone_and_can_vanish(base):
    tower = load_tower(str(base))
    student, teacher = tower.with_rotary_text(248, 10000.0).text, tower.text
    tokens = tower.tokenizer(["a red cube", "a green ball left of a blue cone"])
    for form in ("cosine", "mse"):
        objective = DistillationObjective(student, teacher, form).train()
        assert not teacher.training
        assert student.training
        loss = objective(tokens, tokens)["loss"]
        assert loss > 0
        loss.backward()
        assert all(parameter.grad is None for parameter in teacher.parameters())
        assert student.transformer.resblocks[0].attn.in_proj_weight.grad.abs().sum() > 0
        same = DistillationObjective(teacher, teacher, form)(tokens, tokens)["loss"]
        assert same.item() == pytest.approx(0, abs=1e-6)


@pytest.fixture
def unused_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


CAPTIONS, PAIRS = 16, 16
LOSSES = [
    (1.0, 0.0, 0.0, symmetric_loss),
    (0.0, 1.0, 0.0, symmetric_loss),
    (0.0, 0.0, 1.0, source_anchored_loss),
    (0.0, 0.0, 1.0, image_anchored_loss),
    (0.0, 0.0, 1.0, symmetric_loss),
    (1.0, 1.0, 1.0, symmetric_loss),
    (1.0, 1.0, 1.0, symmetric_loss, Sigmoid),
]


def part_of(batch, number, of):
    """Every `of`-th part of the captions and of the pairs."""

    def rows(start, total):
        size = total // of
        return slice(start + number * size, start + (number + 1) * size)

    parts = [rows(0, CAPTIONS), rows(CAPTIONS, PAIRS), rows(CAPTIONS + PAIRS, PAIRS)]
    told = {
        name: torch.cat([batch[name][part] for part in parts])
        for name in ("pixel_values", "short_tokens")
    }
    return {**told, "long_tokens": batch["long_tokens"][parts[0]]}


def gradients_of(base, number, rank, ranks, micro):
    """As a Trainer has them: the mean over micro-batches, then over ranks."""
    tower = rotary(base)
    if Sigmoid in LOSSES[number]:
        tower.logit_bias = nn.Parameter(torch.tensor([-5.0]))
    objective = ContrastiveObjective(tower, *LOSSES[number])
    whole = batch_of(tower, CAPTIONS, PAIRS)
    batches = [part_of(whole, rank * micro + i, ranks * micro) for i in range(micro)]
    if micro == 1:
        told = losses_of(objective, batches[0])
        told["loss"].backward()
    else:
        for batch, share in zip(batches, shares(objective, objective.losses, batches), strict=True):
            told = share.losses
            (share.loss(objective(**batch)) / micro).backward()
    gradients = {n: p.grad for n, p in tower.named_parameters() if p.grad is not None}
    for gradient in gradients.values() if ranks > 1 else ():
        dist.all_reduce(gradient)
        gradient /= ranks
    return told["loss"].item(), gradients


def on_a_rank(rank, ranks, base, port, results):
    place = f"tcp://127.0.0.1:{port}"
    dist.init_process_group(
        "gloo", place, timeout=datetime.timedelta(60), rank=rank, world_size=ranks
    )
    told = {
        (number, micro): gradients_of(base, number, rank, ranks, micro)
        for number in range(len(LOSSES))
        for micro in (1, 2, 4)
    }
    if rank == 0:
        torch.save(told, results)
    dist.destroy_process_group()


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_ranks_and_micro_batches_have_the_gradients_of_the_one_big_batch(
    ranks, base, tmp_path, unused_port
):
    if ranks == 1:
        told = {(w, m): gradients_of(base, w, 0, 1, m) for w in range(len(LOSSES)) for m in (2, 4)}
    else:
        mp.spawn(on_a_rank, (ranks, base, unused_port, tmp_path / "told.pt"), nprocs=ranks)
        told = torch.load(tmp_path / "told.pt")
    for number in range(len(LOSSES)):
        expected, whole = gradients_of(base, number, 0, 1, 1)
        for micro in (1, 2, 4)[ranks == 1 :]:
            loss, gradients = told[number, micro]
            assert loss == pytest.approx(expected, rel=1e-6)
            assert gradients.keys() == whole.keys()
            for name, gradient in whole.items():
                # Entry by entry rounding shows: the start token's are sums that nearly cancel.
                off = (gradients[name] - gradient).norm() / gradient.norm()
                assert off < 1e-5, f"{LOSSES[number]} in {micro}: {name} is off by {off:.1e}"


def test_dropout_falls_alike_when_a_micro_batch_is_encoded_again():
    """Else the features whose gradients were taken would not be those that carry them on."""
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Linear(3, 50), nn.Dropout(0.5))
    told = []

    def encode(rows):
        told.append(layer(rows))
        return {"image": told[-1], "scale": torch.tensor(1.0)}

    def losses(features):
        return {"loss": (features["scale"] * features["image"]).square().mean()}

    batches = [{"rows": torch.ones(2, 3)} for _ in range(2)]
    for batch, share in zip(batches, shares(encode, losses, batches), strict=True):
        torch.rand(7)  # what else draws between
        set_random_state(share.random_state)
        share.loss(encode(**batch)).backward()
    assert torch.equal(told[0], told[2])
    assert torch.equal(told[1], told[3])
    assert not torch.equal(told[0], told[1])
