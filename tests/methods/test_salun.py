"""SalUn moves the salient weights only, and with all of them is random labelling."""

import copy

import pytest
import torch
from torch.nn.functional import cross_entropy

from unlearn_bench.plugins import registry


@pytest.mark.parametrize(
    "settings",
    [
        {"order": "sequential"},
        {"order": "mixed", "optimizer": "adam", "relabel": "each_epoch", "retain_fraction": 0.5},
        {"retain_fraction": 0, "pool": "all", "batch_norm": "eval"},
    ],
)
def test_with_every_weight_it_is_random_labelling(class_world, settings):
    shared = {
        "epochs": 2,
        "lr": 1e-3,
        "weight_decay": 5e-4,
        "batch_size": 64,
        "order": "mixed",
        "optimizer": "sgd",
    } | settings
    ours = class_world.unlearn("salun", ratio=1.0, **shared).state_dict()
    theirs = class_world.unlearn("random_label", **shared).state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def slow_saliency(world):
    """|gradient of the loss on F|, one example at a time, flattened."""
    model = copy.deepcopy(world.original)
    for x, y in world.split("forget").batches(1):
        # Two copies, halved: BatchNorm's backward at batch size 1 is wrong for some layouts.
        cross_entropy(model(x.repeat(2, 1, 1, 1)), y.repeat(2)).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()]).abs()


def flat(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_rest_is_bit_identical_despite_momentum_and_decay(class_world, optimizer):
    model = class_world.unlearn(
        "salun", ratio=0.3, epochs=2, weight_decay=0.1, optimizer=optimizer, lr=1e-2
    )
    moved = flat(model) != flat(class_world.original)
    kept = round(0.3 * len(moved))
    assert 0.95 * kept < moved.sum() <= kept
    order = slow_saliency(class_world).argsort(descending=True)
    # Rounding may swap neighbours at the edge of the mask, and no others.
    assert not moved[order[kept + 50 :]].any()


def test_no_weight_moves_when_none_is_salient(class_world):
    model = class_world.unlearn("salun", ratio=0.0, epochs=1, weight_decay=0.1)
    assert torch.equal(flat(model), flat(class_world.original))


def test_the_mask_is_taken_before_anything_moves(class_world):
    method = registry.get("salun")
    unlearning = class_world.unlearning(method)
    unlearning.run(copy.deepcopy(class_world.original), method.resolve({"epochs": 1}))
    assert unlearning.costs.clock.phases["precompute"].wall > 0
