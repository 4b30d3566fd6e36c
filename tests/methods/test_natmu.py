"""NatMU: the published steps against an independent transcription, and what is blended."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from unlearn_bench_methods.natmu import masks, some_of_classes

from unlearn_bench.toolkit.streams import mixed

from .conftest import followed

PARAMS = {"epochs": 2, "batch_size": 32}


def published_masks(size, delta):
    """The official loops: two halves, four directions."""
    b = size // 2
    m = torch.zeros(4, size, size)
    for i in range(2):
        for j in range(b):
            up, down = j / b, (b - 1) / b - j / b
            first, second = (up, down) if i == 0 else (down, up)
            m[0, i * b + j, :] = first
            m[1, :, i * b + j] = first
            m[2, i * b + j, :] = second
            m[3, :, i * b + j] = second
    return (m + delta).clip(0, 1)


@pytest.mark.parametrize("delta", [-0.19, -0.053, 0.1])
def test_masks_are_the_published_ones(delta):
    torch.testing.assert_close(masks(8, 8, delta)[:, 0], published_masks(8, delta))
    assert masks(7, 5, delta).shape == (4, 1, 7, 5)


def transcription(world, twin, delta, lr, decay, renew):
    """Yield the loss of each step, the blends made one by one."""
    model = copy.deepcopy(world.original).eval()
    kept = twin.retain.labels
    xs, ys = next(twin.forget.batches(1000))
    with torch.no_grad():
        logits = model(xs)
    logits[:, sorted(set(range(10)) - set(kept.tolist()))] = -math.inf
    logits[torch.arange(len(ys)), ys] = -math.inf
    labels = logits.topk(4, dim=1).indices.flatten()
    partner = torch.empty_like(labels)
    for label in range(10):
        places = [i for i, wanted in enumerate(labels.tolist()) if wanted == label]
        if places:
            there = (kept == label).nonzero().squeeze(1)
            order = there[torch.randperm(len(there), generator=twin.rng)].tolist()
            for turn, place in enumerate(places):
                partner[place] = order[turn % len(order)]
    images, _ = next(twin.retain.batches(1000))
    m = published_masks(8, delta)
    blends = torch.stack(
        [
            m[i % 4] * xs[i // 4] + (1 - m[i % 4]) * images[int(partner[i])]
            for i in range(len(labels))
        ]
    )
    if renew:
        head = model.get_classifier().weight
        std = math.sqrt(2 * 2 / (head.shape[0] + head.shape[1]))
        with torch.no_grad():
            head.copy_(torch.randn(head.shape, generator=twin.rng) * std)
    size = round(32 * len(kept) / (len(kept) + len(blends)))
    total, done = 2 * math.ceil(len(kept) / size), 0
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=decay)
    for _ in range(2):
        batches = mixed(twin.retain.epochs(1, size), len(kept), blends, labels, twin.rng)
        for x, y in batches:
            optimizer.param_groups[0]["lr"] = lr * (1 + math.cos(math.pi * done / total)) / 2
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            done += 1
            yield loss.item()


@pytest.mark.parametrize(
    ("scenario", "published"),
    [("class_world", (-0.053, 2.8e-4, 0.0, True)), ("random_world", (-0.19, 1e-3, 2e-3, False))],
)
def test_the_steps_agree_with_a_transcription(scenario, published, request):
    world = request.getfixturevalue(scenario).exactly()
    log, _, twin = followed(world, "natmu", **PARAMS)
    slow = list(transcription(world, twin, *published))
    assert len(log) == len(slow) >= 16
    assert [step["loss"] for step in log] == pytest.approx(slow, rel=1e-4)


def test_no_partner_is_taken_twice_while_its_class_has_others():
    labels = torch.tensor([0, 1, 0, 1, 0])
    positions = some_of_classes(labels, torch.tensor([0, 0, 0, 1, 1, 1]), torch.Generator())
    assert labels[positions].tolist() == [0, 0, 0, 1, 1, 1]
    assert sorted(positions[:3].tolist()) == [0, 2, 4]
    assert set(positions[3:].tolist()) == {1, 3}
