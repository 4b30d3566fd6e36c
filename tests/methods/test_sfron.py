"""SFR-on: weights of losses, the mask, and what a forget step may move."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, AdamW
from unlearn_bench_methods import sfron

from unlearn_bench.plugins import registry

METHOD = registry.get("sfron")
STEPS = {"steps": 6, "forget_every": 2, "batch_size": 64}


def inside(function):
    return getattr(sfron, function)


def fine_tuned(world, *, momentum, weight_decay):
    """Steps on R alone, written out."""
    model = copy.deepcopy(world.original)
    retain = world.context(METHOD).retain.forever(64)
    optimizer = SGD(model.parameters(), 0.01, momentum, weight_decay=weight_decay)
    model.train()
    for step in range(6):
        optimizer.param_groups[0]["lr"] = 0.01 * (1 + math.cos(math.pi * step / 6)) / 2
        x, y = next(retain)
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()
    return model


def close(a, b):
    return all(
        torch.allclose(p, q, atol=1e-6) for p, q in zip(a.parameters(), b.parameters(), strict=True)
    )


def test_without_alpha_it_is_finetuning(class_world):
    plain = fine_tuned(class_world, momentum=0.0, weight_decay=0.0)
    params = {"alpha": 0.0, "momentum": 0.0, "weight_decay": 0.0, **STEPS}
    assert close(class_world.unlearn("sfron", **params), plain)
    assert not close(class_world.unlearn("sfron", **params | {"alpha": 25.0}), plain)


def test_an_empty_mask_makes_forget_steps_nothing_despite_momentum_and_decay(class_world):
    plain = fine_tuned(class_world, momentum=0.9, weight_decay=0.1)
    params = {"gamma": 1e30, "momentum": 0.9, "weight_decay": 0.1, **STEPS}
    assert close(class_world.unlearn("sfron", **params), plain)
    # As in the official code, they move what the mask should hold.
    assert not close(class_world.unlearn("sfron", hold_masked=False, **params), plain)


def test_weights_sum_to_the_batch_and_favour_low_losses():
    losses = torch.tensor([0.01, 1.0, 4.0])
    weights = inside("balance")(losses, 0.5)
    assert weights.sum().item() == pytest.approx(3)
    assert (weights / weights[1]).tolist() == pytest.approx([10, 1, 0.5], rel=1e-5)
    assert inside("balance")(losses, 0.0).tolist() == pytest.approx([1, 1, 1])


def test_a_loss_of_zero_does_not_take_the_whole_batch():
    """In float32 cross-entropy is 0 for what is known by heart, and so is its gradient."""
    weights = inside("balance")(torch.tensor([0.0, 1e-7, 1e-4, 1e-2]), 0.5)
    assert torch.isfinite(weights).all() and weights[0] == weights[1]
    assert (weights / weights[2]).tolist() == pytest.approx([10, 10, 1, 0.1], rel=1e-4)


def test_the_mask_holds_what_matters_more_to_the_forget_set(class_world):
    context = class_world.context(METHOD)
    model = copy.deepcopy(class_world.original)
    mask = inside("saliency")(model, context, 1.0, "fisher", 64)
    weight = model.get_parameter("classifier.bias")
    squares = []
    for name in ("forget", "retain"):
        x, y = next(iter(class_world.split(name).batches(1000)))
        losses = cross_entropy(model(x), y, reduction="none")
        each = [torch.autograd.grad(loss, weight, retain_graph=True)[0] ** 2 for loss in losses]
        squares.append(torch.stack(each).mean(0))
    ratio = (squares[0] + 1e-15) / (squares[1] + 1e-15)
    assert torch.equal(mask["classifier.bias"], ratio >= 1)
    assert 0 < mask["classifier.bias"].sum() < 10
    assert all(m.all() for m in inside("saliency")(model, context, 0.0, "fisher", 64).values())
    batch = inside("saliency")(model, context, 1.0, "batch", 64)
    assert any(not torch.equal(batch[name], mask[name]) for name in mask)


@pytest.mark.parametrize(
    "rule", [lambda p: SGD(p, 0.1, 0.9, weight_decay=0.5), lambda p: AdamW(p, 0.1)]
)
def test_a_masked_step_leaves_the_rest_and_its_optimiser_state(rule):
    torch.manual_seed(0)
    layer = nn.Linear(4, 3)
    optimizer = rule(layer.parameters())
    mask = {p: torch.rand(p.shape) < 0.5 for p in layer.parameters()}
    x = torch.randn(6, 4)
    for masked in (True, False, True, True):
        optimizer.zero_grad()
        layer(x).square().sum().backward()
        state = {
            key: value.clone()
            for key, value in optimizer.state.get(layer.weight, {}).items()
            if value.shape == layer.weight.shape
        }
        before = layer.weight.detach().clone()
        if not masked:
            optimizer.step()
            continue
        inside("masked_step")(optimizer, mask)
        held = ~mask[layer.weight]
        assert torch.equal(layer.weight[held], before[held])
        assert (layer.weight[~held] != before[~held]).all()
        for key, value in optimizer.state[layer.weight].items():
            if value.shape == layer.weight.shape:
                old = state.get(key, torch.zeros_like(value))
                assert torch.equal(value[held], old[held]), key
