"""L2UL: adversarial stand-ins, weights that are held, and when it stops."""

import copy

import pytest
import torch
from unlearn_bench_methods import l2ul

from unlearn_bench.api import accuracy
from unlearn_bench.plugins import registry

METHOD = registry.get("l2ul")
SHORT = {"adversarial": 2, "iterations": 3, "adversarial_batch_size": 16}


def inside(function):
    return getattr(l2ul, function)


def test_the_original_takes_stand_ins_for_their_targets(class_world):
    context = class_world.context(METHOD)
    x, y = inside("adversarial_examples")(class_world.original, context, 2, 4.0, 0.4, 25)
    assert len(x) == len(y) == 2 * len(class_world.indices.forget)
    with torch.no_grad():
        assert (class_world.original(x).argmax(1) == y).float().mean() > 0.9
    clean = next(iter(class_world.split("forget").batches(1000)))[0].repeat(2, 1, 1, 1)
    moved = (context.pixels.of(x) - context.pixels.of(clean)).flatten(1).norm(dim=1)
    assert moved.max() <= 4 + 1e-4


@pytest.mark.parametrize("world", ["class_world", "classes_world", "random_world"])
def test_targets_are_never_the_true_label_nor_a_forgotten_class(world, request):
    world = request.getfixturevalue(world)
    context = world.context(METHOD)
    labels = context.forget.labels.repeat(50)
    drawn = inside("other_labels")(labels, context)
    assert not (drawn == labels).any()
    assert not torch.isin(drawn, torch.tensor(world.indices.forget_classes)).any()
    assert len(drawn.unique()) == 10 - len(world.indices.forget_classes)


def test_importance_is_the_mean_gradient_size_scaled_and_turned_round(class_world):
    model = copy.deepcopy(class_world.original)
    context = class_world.context(METHOD)
    held = inside("held_weights")(model, context, "example", 32)
    x, _ = next(iter(class_world.split("forget").batches(1000)))
    for name in ("classifier.weight", "features.3.conv1.weight"):
        weight = model.get_parameter(name)
        omega = torch.zeros_like(weight)
        for length in model(x).norm(dim=1):
            omega += torch.autograd.grad(length, weight, retain_graph=True)[0].abs() / len(x)
        scaled = (omega - omega.min()) / (omega.max() - omega.min())
        assert torch.allclose(held[name], 1 - scaled, atol=1e-4)
        assert held[name].min() == 0 and held[name].max() == 1
    assert all(0 <= w.min() and w.max() <= 1 for w in held.values())
    assert all(p.grad is None for p in model.parameters())
    # Summed before the absolute value is taken, gradients cancel.
    batch = inside("held_weights")(model, context, "batch", 32)
    assert not torch.allclose(batch["classifier.weight"], held["classifier.weight"], atol=1e-2)


def test_a_constant_importance_holds_the_whole_tensor():
    scaled = inside("_scaled")
    assert scaled(torch.full((3,), 0.5)).tolist() == [0, 0, 0]
    assert scaled(torch.tensor([1.0, 2.0, 5.0])).tolist() == [0, 0.25, 1]


def test_a_huge_importance_weight_holds_the_model_where_it_was(class_world):
    held = inside("held_weights")(
        copy.deepcopy(class_world.original), class_world.context(METHOD), "batch", 32
    )

    def moved(weight):
        model = class_world.unlearn(
            "l2ul",
            importance="batch",
            importance_weight=weight,
            lr=1e-3,
            momentum=0.0,
            weight_decay=0.0,
            stop_accuracy=None,
            epochs=2,
            **SHORT,
        )
        return sum(
            float((held[name] * (p - q).detach().square()).sum())
            for (name, p), q in zip(
                model.named_parameters(), class_world.original.parameters(), strict=True
            )
        )

    assert moved(900.0) < 0.1 * moved(0.0)


def test_both_losses_are_weighted_by_their_share_of_the_step(class_world):
    context = class_world.context(METHOD)
    params = METHOD.resolve({"batch_size": 8, "stop_accuracy": None, "epochs": 1, **SHORT})
    model = copy.deepcopy(class_world.original)
    METHOD.function(model, context, **params)
    first, second, *_ = [entry for entry in context.log_entries if "tie" in entry]
    assert float(first["tie"]) == 0 < float(second["tie"])
    twin = class_world.context(METHOD)
    x, y = next(iter(twin.forget.forever(8, augment=False)))
    loss = torch.nn.functional.cross_entropy(class_world.original(x), y)
    assert float(first["ascent"]) == pytest.approx(-8 / (8 + 16) * loss.item(), rel=1e-4)


def test_it_stops_when_the_forget_set_is_forgotten(class_world):
    context = class_world.context(METHOD)
    params = {"lr": 1e-2, "importance": "batch", "epochs": 100, **SHORT}
    model = METHOD.function(copy.deepcopy(class_world.original), context, **METHOD.resolve(params))
    assert accuracy(model, class_world.split("forget").batches()) == 0
    assert 1 < len(context.log_entries) < 100


@pytest.mark.parametrize(("radius", "iterations", "warned"), [(1.0, 5, True), (3.0, 50, False)])
def test_attacks_that_miss_their_targets_are_named(
    class_world, radius, iterations, warned, recwarn
):
    context = class_world.context(METHOD)
    params = {"adversarial": 2, "epochs": 1, "importance": "batch", "radius": radius}
    params = METHOD.resolve(params | {"iterations": iterations, "stop_accuracy": None})
    METHOD.function(copy.deepcopy(class_world.original), context, **params)
    rate = next(entry["hit_rate"] for entry in context.log_entries if "hit_rate" in entry)
    assert (rate < 0.9) == warned
    said = [str(w.message) for w in recwarn if "l2ul" in str(w.message)]
    assert bool(said) == warned and all(f"{rate:.0%}" in text for text in said)


def test_large_forget_sets_get_fewer_stand_ins_but_one_each(class_world, monkeypatch):
    asked = []
    stand_ins = inside("adversarial_examples")

    def count(model, ctx, each, *rest):
        asked.append(each)
        return stand_ins(model, ctx, 1, *rest)

    monkeypatch.setattr(l2ul, "adversarial_examples", count)
    for most in (5120, 60, 1):
        class_world.unlearn(
            "l2ul",
            adversarial=20,
            most_adversarial=most,
            iterations=1,
            epochs=1,
            importance="batch",
        )
    assert asked == [20, 60 // len(class_world.indices.forget), 1]
