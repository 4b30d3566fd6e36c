"""SCAR: the published steps against an independent transcription, and where it draws F to."""

import copy

import pytest
import torch
import torch.nn.functional as F

from unlearn_bench.toolkit.surrogate_images import surrogate_images

from .conftest import followed

# All of F in one batch, so that the order of the official code's two loops does not matter.
PARAMS = {"epochs": 2, "batch_size": 50, "surrogates": 500, "lr": 1e-3, "surrogate": "gaussian"}


def embed(model, x):
    return model.forward_head(model.forward_features(x), pre_logits=True)


def tukey(h):
    return h.sign() * h.abs().clamp_min(1e-6).sqrt()


def shrink(cov):
    size = len(cov)
    others = [float(cov[i, j]) for i in range(size) for j in range(size) if i != j and cov[i, j]]
    mean, beside = float(cov.diagonal().mean()), sum(others) / len(others)
    added = torch.full_like(cov, 3 * beside)
    added.fill_diagonal_(3 * mean)
    return cov + added


def transcription(world, twin, forgotten=8):
    """Yield the weighted losses of each step."""
    model, teacher = copy.deepcopy(world.original).eval(), copy.deepcopy(world.original).eval()
    with torch.no_grad():
        pairs = [(tukey(embed(model, x)), y) for x, y in twin.retain.batches()]
    ts, ys = torch.cat([t for t, _ in pairs]), torch.cat([y for _, y in pairs])
    known = []
    for label in sorted(set(range(10)) - {forgotten}):
        group = ts[ys == label]
        cov = shrink(shrink(torch.cov(group.T)))
        deviation = cov.diagonal().sqrt()
        corr = cov / torch.outer(deviation, deviation)
        mean = group.mean(0)
        known.append((mean / mean.norm(), torch.linalg.pinv(corr)))
    images = surrogate_images("gaussian", 500, (1, 8, 8), twin.rng).double()
    nearest: dict[int, int] = {}
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    model.train()
    for _ in range(2):
        order = torch.randperm(500, generator=twin.rng)
        for part in order.split(50)[:6]:
            x, _, places = next(twin.forget.traced(1, 50))
            rows = []
            for t in tukey(embed(model, x)):
                u = t / t.norm()
                rows.append(torch.stack([(u - m) @ s @ (u - m) for m, s in known]))
            for row, place in zip(rows, places.tolist(), strict=True):
                nearest.setdefault(place, int(row.argmin()))
            chosen = [row[nearest[p]] for row, p in zip(rows, places.tolist(), strict=True)]
            lose = torch.stack(chosen).mean()
            s = images[part]
            with torch.no_grad():
                believed = teacher(s)
            kept = believed.argmax(1) != forgotten
            believed = believed[kept]
            believed[:, forgotten] = believed.min()
            p, log_q = F.softmax(believed, 1), F.log_softmax(model(s)[kept], 1)
            keep = 5 * (p * (F.log_softmax(believed, 1) - log_q)).sum(1).mean()
            optimizer.zero_grad()
            (lose + keep).backward()
            optimizer.step()
            yield lose.item(), keep.item()


def test_the_steps_agree_with_a_transcription(exact_world):
    log, _, twin = followed(exact_world, "scar", **PARAMS)
    slow = list(transcription(exact_world, twin))
    assert len(log) == len(slow) == 12
    for ours, (lose, keep) in zip(log, slow, strict=True):
        assert ours["forget_loss"] == pytest.approx(lose, rel=1e-4)
        # In the first step the student is the teacher but for BatchNorm.
        assert ours["retain_loss"] == pytest.approx(keep, rel=1e-4)


def test_training_reads_no_retained_image(class_world):
    class_world.unlearn("scar", **PARAMS)
    assert class_world.ledger["retain"] == len(class_world.indices.retain)
