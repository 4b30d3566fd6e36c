"""Random labelling: which labels are drawn, and what is trained on."""

import copy

import pytest
import torch

from unlearn_bench.api import wrong_labels
from unlearn_bench.plugins import registry


def draw(world, pool, n=1):
    ctx = world.context(registry.get("random_label"))
    true = ctx.forget.labels
    draws = [wrong_labels(true, 10, pool, ctx.forget_classes, ctx.rng) for _ in range(n)]
    return true, torch.stack(draws)


@pytest.mark.parametrize("world", ["class_world", "classes_world", "random_world"])
@pytest.mark.parametrize("pool", ["retain_classes", "other"])
def test_no_example_keeps_its_label(request, world, pool):
    true, drawn = draw(request.getfixturevalue(world), pool, 50)
    assert not (drawn == true).any()


def test_forgotten_classes_are_left_out_of_the_default_pool(classes_world):
    _, drawn = draw(classes_world, "retain_classes", 50)
    assert not torch.isin(drawn, torch.tensor([1, 7])).any()
    _, drawn = draw(classes_world, "other", 50)
    assert torch.isin(drawn, torch.tensor([1, 7])).any()


def test_labels_are_uniform_over_the_pool(class_world):
    _, drawn = draw(class_world, "other", 400)
    counts = drawn.flatten().bincount(minlength=10).double()
    assert counts[8] == 0
    expected = drawn.numel() / 9
    others = torch.cat([counts[:8], counts[9:]])
    chi_square = float(((others - expected) ** 2 / expected).sum())
    assert chi_square < 26.1  # 0.1 % point of chi-square with 8 degrees of freedom


def test_the_official_pool_may_draw_the_true_label(class_world):
    true, drawn = draw(class_world, "all", 50)
    assert (drawn == true).any()


def test_retain_fraction_bounds_what_is_touched(class_world):
    class_world.unlearn("random_label", epochs=1, retain_fraction=0.5)
    half = round(0.5 * len(class_world.indices.retain))
    assert abs(class_world.ledger["retain"] - half) <= 1
    class_world.unlearn("random_label", epochs=1, retain_fraction=0)
    assert class_world.ledger["retain"] == 0
    assert class_world.ledger["forget"] >= len(class_world.indices.forget) - 1


@pytest.mark.parametrize(
    "variant",
    [
        {"order": "sequential"},
        {"relabel": "each_epoch"},
        {"pool": "all"},
        {"optimizer": "sgd"},
        {"batch_norm": "eval"},
        {"weight_decay": 0.1},
        {"lr": 1e-3},
        {"batch_size": 16},
        {"retain_fraction": 0.2},
    ],
)
def test_every_variant_gives_other_weights(class_world, variant):
    plain = class_world.unlearn("random_label", epochs=2)
    other = class_world.unlearn("random_label", epochs=2, **variant)
    assert any(
        not torch.equal(a, b) for a, b in zip(plain.parameters(), other.parameters(), strict=True)
    )


def test_the_forget_set_is_unlearned(class_world):
    model = copy.deepcopy(class_world.unlearn("random_label", epochs=20, lr=1e-3))
    x, y = next(iter(class_world.split("forget").batches(1000)))
    assert (model(x).argmax(1) == y).float().mean() <= 0.2
