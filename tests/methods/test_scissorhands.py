"""Scissorhands: the published steps against an independent transcription, and what is cut."""

import copy
import math
from itertools import zip_longest

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from unlearn_bench_methods.scissorhands import keep_from_undoing

from unlearn_bench.toolkit.anatomy import norms, tail

from .conftest import followed

PARAMS = {"epochs": 2, "batch_size": 16, "lr": 5e-3}


def flat_gradient(model, loss, parameters):
    grads = torch.autograd.grad(loss, parameters)
    return torch.cat([g.flatten() for g in grads])


def transcription(world, twin):
    """Yield the losses of each step, gradients taken as one vector."""
    model = copy.deepcopy(world.original).eval()
    parameters = list(model.parameters())
    x, y = next(twin.forget.epochs(1, 16))
    gradient = flat_gradient(model, F.cross_entropy(model(x), y), parameters)
    theta = torch.cat([p.detach().flatten() for p in parameters])
    scores = (gradient * theta).abs()
    cut = scores > scores.sort().values[len(scores) - round(0.03 * len(scores)) - 1]
    parts = {id(p) for part in tail(model, 2) for p in part.parameters()}
    of_norms = {id(p) for norm in norms(model) for p in norm.parameters()}
    start = 0
    for name, p in model.named_parameters():
        mask = cut[start : start + p.numel()].view_as(p)
        start += p.numel()
        if id(p) not in parts or id(p) in of_norms:
            continue
        fresh = torch.zeros(p.shape)
        if not name.endswith("bias"):
            # Kaiming's uniform distribution with a = sqrt(5): gain sqrt(1/3), bound sqrt(3) std.
            fan = nn.init._calculate_fan_in_and_fan_out(p)[0]
            bound = math.sqrt(3) * math.sqrt(2 / (1 + 5)) / math.sqrt(fan)
            fresh = (torch.rand(p.shape, generator=twin.rng) - 0.5) * 2 * bound
        with torch.no_grad():
            p.copy_(torch.where(mask, fresh.to(p), p))
    late = [p for p in parameters if id(p) in parts]
    optimizer = torch.optim.SGD(parameters, lr=5e-3, momentum=0.9, weight_decay=5e-4)
    for _ in range(2):
        model.eval()
        x, y = next(twin.forget.epochs(1, 16))
        h = -flat_gradient(model, F.cross_entropy(model(x), y), late)
        model.train()
        for retain, forget in zip_longest(twin.retain.epochs(1, 16), twin.forget.epochs(1, 16)):
            optimizer.zero_grad()
            keep = F.cross_entropy(model(retain[0]), retain[1])
            if forget is None:
                keep.backward()
                optimizer.step()
                yield {"retain_loss": keep.item()}
                continue
            lose = F.cross_entropy(model(forget[0]), forget[1])
            (keep - 0.05 * lose).backward()
            g = torch.cat([p.grad.flatten() for p in late])
            if g @ h < 0:
                g = g + max(0.5, float(-(g @ h) / (h @ h + 1e-3))) * h
                for p, part in zip(late, g.split([p.numel() for p in late]), strict=True):
                    p.grad.copy_(part.view_as(p))
            optimizer.step()
            yield {"retain_loss": keep.item(), "forget_loss": lose.item()}


def test_the_steps_agree_with_a_transcription(exact_world):
    log, _, twin = followed(exact_world, "scissorhands", **PARAMS)
    steps = log[1:]
    slow = list(transcription(exact_world, twin))
    assert log[0]["redrawn"] > 0
    assert len(steps) == len(slow) >= 20
    for ours, theirs in zip(steps, slow, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)


def test_only_the_share_that_the_forget_set_needs_most_is_drawn_again(staged_world):
    share = {"sparsity": 0.9, "blocks": 1, "epochs": 1, "lr": 1e-9, "weight_decay": 0}
    _, model, _ = followed(staged_world, "scissorhands", batch_norm="batch", **share)
    pairs = zip(staged_world.original.named_parameters(), model.named_parameters(), strict=True)
    moved = {name: int(((a - b).abs() > 1e-6).sum()) for (name, a), (_, b) in pairs}
    total = sum(p.numel() for p in model.parameters())
    assert 0 < sum(moved.values()) <= 0.1 * total
    late = {id(p) for part in tail(model, 1) for p in part.parameters()}
    of_norms = {id(p) for norm in norms(model) for p in norm.parameters()}
    for name, p in model.named_parameters():
        assert not moved[name] or (id(p) in late and id(p) not in of_norms)


@pytest.mark.parametrize(("gradient", "expected"), [(-3.0, 0.0), (-0.2, 0.3), (2.0, 2.0)])
def test_a_gradient_that_undoes_the_cut_is_turned_until_it_does_not(gradient, expected):
    p = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    p.grad = torch.tensor([gradient], dtype=torch.float64)
    keep_from_undoing([p], [torch.ones(1, dtype=torch.float64)], margin=0.5)
    assert float(p.grad) == pytest.approx(expected, abs=5e-3)
