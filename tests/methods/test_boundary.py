"""Boundary Shrink's neighbours and Boundary Expand's shadow class."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from unlearn_bench_methods.boundary_expand import narrow, widen
from unlearn_bench_methods.boundary_shrink import neighbours

from unlearn_bench.plugins import registry
from unlearn_bench.suite.spec import ModelSpec
from unlearn_bench.training import models


def found(world, exclude, radius=0.1):
    method = registry.get("boundary_shrink")
    ctx = world.context(method)
    x, y = next(iter(ctx.forget.batches(1000)))
    return x, y, neighbours(world.original, x, y, ctx, radius, exclude)


@pytest.mark.parametrize("world", ["class_world", "classes_world", "random_world"])
@pytest.mark.parametrize("exclude", ["own", "all_forget"])
def test_no_example_gets_its_own_class(request, world, exclude):
    world = request.getfixturevalue(world)
    _, y, nearest = found(world, exclude)
    assert not (nearest == y).any()
    if exclude == "all_forget":
        assert not torch.isin(nearest, torch.tensor(world.indices.forget_classes)).any()


def test_the_official_variant_teaches_the_true_class_where_the_attack_fails(class_world):
    _, y, nearest = found(class_world, "none", radius=0.01)
    assert (nearest == y).any()


def test_neighbours_agree_with_an_attack_example_by_example(class_world):
    x, y, nearest = found(class_world, "own")
    mean, std = class_world.data.mean[0], class_world.data.std[0]
    model = copy.deepcopy(class_world.original)
    for row in range(0, len(x), 5):
        image = x[row : row + 1].repeat(2, 1, 1, 1).requires_grad_()
        cross_entropy(model(image), y[row].repeat(2)).backward()
        pixels = image.detach() * std + mean
        attacked = ((pixels + 0.1 * image.grad.sign()).clamp(0, 1) * 255).round() / 255
        logits = model((attacked - mean) / std)[0].tolist()
        others = [c for c in range(10) if c != y[row]]
        assert nearest[row] == max(others, key=lambda c: logits[c])


def test_shrinking_teaches_the_neighbours(class_world):
    x, _, nearest = found(class_world, "own")
    model = class_world.unlearn("boundary_shrink", lr=1e-3, epochs=20)
    with torch.no_grad():
        taught = cross_entropy(model(x), nearest)
        assert taught < 0.4 * cross_entropy(class_world.original(x), nearest)


@pytest.mark.parametrize("bias", [True, False])
def test_widening_leaves_the_other_logits_alone_and_narrowing_undoes_it(bias):
    head = nn.Linear(7, 4, bias=bias)
    before, x = copy.deepcopy(head), torch.randn(3, 7)
    widen(head, torch.Generator().manual_seed(0))
    assert head(x).shape == (3, 5) and head.out_features == 5
    assert torch.allclose(head(x)[:, :4], before(x), atol=1e-6)
    assert head.weight[4].abs().max() > 0 and (not bias or head.bias[4] == 0)
    narrow(head)
    assert torch.equal(head.weight, before.weight) and head.out_features == 4
    assert head.weight.requires_grad and head.weight.is_leaf
    assert (head.bias is None) is not bias
    assert not bias or torch.equal(head.bias, before.bias)


def test_the_shadow_row_is_drawn_as_xavier_would():
    head = nn.Linear(20000, 9)
    widen(head, torch.Generator().manual_seed(0))
    assert head.weight[9].std().item() == pytest.approx((2 / 20010) ** 0.5, rel=0.03)


def test_the_shadow_class_is_trained_and_cut_off(class_world):
    method = registry.get("boundary_expand")
    ctx = class_world.context(method)
    model = copy.deepcopy(class_world.original)
    method.function(model, ctx, **method.resolve({"lr": 1e-3, "batch_size": 16}))
    losses = [float(entry["shadow_loss"]) for entry in ctx.log_entries]
    assert losses[-1] < 0.5 * losses[0]
    assert model.classifier.weight.shape == class_world.original.classifier.weight.shape
    assert model.classifier.out_features == 10
    assert not torch.equal(model.classifier.weight, class_world.original.classifier.weight)


def test_both_heads_of_a_distilled_transformer_are_widened(class_world):
    method = registry.get("boundary_expand")
    model = models.build(
        ModelSpec(name="deit_tiny_distilled_patch16_224", args={"depth": 1, "embed_dim": 24}),
        channels=1,
        image_size=(8, 8),
        num_classes=10,
        seed=0,
    )
    ctx = class_world.context(method)
    method.function(model, ctx, **method.resolve({"epochs": 1, "lr": 0.1}))
    assert model.head.weight.shape == model.head_dist.weight.shape == (10, 24)
    assert method.resolve({})["epochs"] == 10


def test_a_head_with_hidden_layers_is_widened_where_it_gives_the_logits(class_world):
    world = copy.copy(class_world)
    world.original = copy.deepcopy(class_world.original)
    width = world.original.classifier.in_features
    torch.manual_seed(0)
    world.original.classifier = nn.Sequential(nn.Linear(width, 32), nn.ReLU(), nn.Linear(32, 10))
    model = world.unlearn("boundary_expand", epochs=1, lr=1e-2, batch_size=16)
    assert [tuple(model.classifier[i].weight.shape) for i in (0, 2)] == [(32, width), (10, 32)]
    assert not torch.equal(model.classifier[2].weight, world.original.classifier[2].weight)


@pytest.mark.parametrize("name", ["boundary_shrink", "boundary_expand"])
def test_defaults_take_the_steps_of_the_official_code(name):
    # Twice the batch at the same step size would halve the way.
    expected = {"batch_size": 64, "lr": 1e-5, "epochs": 10, "momentum": 0.9}
    assert expected.items() <= registry.get(name).resolve({}).items()
