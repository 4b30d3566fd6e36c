"""DUCK: the published steps against an independent transcription, and which centroid is chosen."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from unlearn_bench_methods.duck import others

from .conftest import followed

# All of F in one batch, so that the order of the official code's two loops does not matter.
PARAMS = {"epochs": 3, "batch_size": 50, "repair_batch_size": 100, "lr": 2e-3, "stop_accuracy": 0.0}


def embed(model, x):
    return model.forward_head(model.forward_features(x), pre_logits=True)


def distances(embedded, centroids):
    """Cosine distance of every embedding to every centroid, one by one."""
    rows = []
    for h in embedded:
        rows.append(torch.stack([1 - h @ c / (h.norm() * c.norm()) for c in centroids]))
    return torch.stack(rows)


def transcription(world, twin, forgotten=8):
    """Yield the weighted losses of each step."""
    model = copy.deepcopy(world.original).eval()
    kept = [c for c in range(10) if c != forgotten]
    with torch.no_grad():
        pairs = [(embed(model, x), y) for x, y in twin.retain.epochs(1, 50, augment=False)]
    hs, ys = torch.cat([h for h, _ in pairs]), torch.cat([y for _, y in pairs])
    centroids = [hs[ys == c].mean(0) for c in kept]
    nearest: dict[int, int] = {}

    def pull(x, places):
        found = distances(embed(model, x), centroids)
        for row, place in zip(found, places.tolist(), strict=True):
            nearest.setdefault(place, int(row.argmin()))
        return torch.stack([row[nearest[p]] for row, p in zip(found, places.tolist(), strict=True)])

    forget = twin.forget.traced(100, 50)
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(3):
        for x_r, y_r in twin.retain.epochs(1, 50):
            x_f, _, places = next(forget)
            lose = 1.0 * pull(x_f, places).mean()
            keep = 1.4 * F.cross_entropy(model(x_r) / 2, y_r)
            optimizer.zero_grad()
            (lose + keep).backward()
            optimizer.step()
            yield lose.item(), keep.item()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    done, forget = 0, twin.forget.traced(100, 50)
    for _ in range(2):
        for x_r, y_r in twin.retain.epochs(1, 100):
            optimizer.param_groups[0]["lr"] = 1e-4 * (1 + math.cos(math.pi * done / 40)) / 2
            x_f, _, places = next(forget)
            out = embed(model, torch.cat([x_f, x_r]))
            found = distances(out[: len(x_f)], centroids)
            chosen = [row[nearest[p]] for row, p in zip(found, places.tolist(), strict=True)]
            lose = 0.1 * torch.stack(chosen).mean()
            keep = F.cross_entropy(model.get_classifier()(out[len(x_f) :]) / 2, y_r)
            optimizer.zero_grad()
            (lose + keep).backward()
            optimizer.step()
            done += 1
            yield lose.item(), keep.item()


def test_the_steps_agree_with_a_transcription(exact_world):
    log, _, twin = followed(exact_world, "duck", **PARAMS)
    slow = list(transcription(exact_world, twin))
    assert len(log) == len(slow) >= 20
    for ours, (lose, keep) in zip(log, slow, strict=True):
        assert ours["forget_loss"] == pytest.approx(lose, rel=1e-4)
        assert ours["retain_loss"] == pytest.approx(keep, rel=1e-4)


def test_neither_its_own_class_nor_one_without_examples_draws_an_example():
    near = torch.tensor([[0.1, 0.2, 0.3]])
    absent = torch.tensor([False, True, False])
    assert int(others(near, torch.tensor([0]), absent).argmin()) == 2


def test_it_stops_as_soon_as_the_forget_set_is_forgotten(class_world):
    short = {"repair_epochs": 0, "batch_size": 50, "epochs": 3}
    log, _, _ = followed(class_world, "duck", stop_accuracy=1.0, lr=1e-2, **short)
    full, _, _ = followed(class_world, "duck", stop_accuracy=0.0, lr=1e-2, **short)
    assert len(log) < len(full)
