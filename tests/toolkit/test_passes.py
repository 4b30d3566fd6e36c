"""Descent and noise against the few lines they stand for."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss

from unlearn_bench.api import add_noise, descend


def test_one_pass_is_one_step_per_batch_and_tells_every_loss():
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    by_hand = copy.deepcopy(model)
    batches = [(torch.randn(4, 3), torch.randn(4, 2)) for _ in range(3)]
    told = []
    last = descend(
        model,
        batches,
        torch.optim.SGD(model.parameters(), 0.1, 0.9),
        lambda **entry: told.append(entry["loss"].item()),
        mse_loss,
    )
    optimizer = torch.optim.SGD(by_hand.parameters(), 0.1, 0.9)
    seen = []
    for x, y in batches:
        loss = (by_hand(x) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen.append(loss.item())
    assert torch.allclose(model.weight, by_hand.weight)
    assert told == pytest.approx(seen) and last.item() == pytest.approx(seen[-1])
    assert not last.requires_grad


def test_noise_has_the_spread_asked_for_and_comes_from_the_generator():
    layers = [nn.Parameter(torch.ones(100, 100)) for _ in range(3)]
    for layer, seed in zip(layers, (0, 0, 1), strict=True):
        add_noise([layer], 0.5, torch.Generator().manual_seed(seed))
    assert layers[0].mean().item() == pytest.approx(1, abs=0.02)
    assert layers[0].std().item() == pytest.approx(0.5, rel=0.03)
    assert torch.equal(layers[0], layers[1]) and not torch.equal(layers[0], layers[2])
