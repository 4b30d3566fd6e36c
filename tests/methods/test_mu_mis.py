"""MU-Mis: sensitivities of a linear function are known, and so are their gradients."""

import copy

import torch
from torch import nn
from unlearn_bench_methods import mu_mis

from unlearn_bench.plugins import registry


def test_sensitivities_of_a_linear_function_are_its_rows():
    model = nn.Linear(5, 4)
    x, y, c = torch.randn(3, 5), torch.tensor([1, 1, 1]), torch.tensor([2, 2, 2])
    own, others = mu_mis.sensitivities(model, x, y, c)
    assert torch.isclose(own, model.weight[1].square().sum())
    assert torch.isclose(others, model.weight[2].square().sum())
    (own - others).backward()
    expected = torch.zeros(4, 5)
    expected[1], expected[2] = 2 * model.weight[1].detach(), -2 * model.weight[2].detach()
    assert torch.allclose(model.weight.grad, expected)
    assert not model.bias.grad.any() if model.bias.grad is not None else True


def test_each_example_counts_alone():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 4))
    x, y, c = torch.randn(6, 5), torch.arange(6) % 4, (torch.arange(6) + 1) % 4
    together = mu_mis.sensitivities(model, x, y, c)
    alone = [
        mu_mis.sensitivities(model, x[i : i + 1], y[i : i + 1], c[i : i + 1]) for i in range(6)
    ]
    for which in range(2):
        mean = torch.stack([pair[which] for pair in alone]).mean()
        assert torch.isclose(together[which], mean, rtol=1e-5)


def test_the_difference_falls(class_world):
    method = registry.get("mu_mis")
    context = class_world.context(method)
    model = copy.deepcopy(class_world.original)
    method.function(model, context, **method.resolve({"lr": 1e-3, "delta": None}))
    difference = [float(e["own"] - e["others"]) for e in context.log_entries if "own" in e]
    assert difference[-1] < difference[0] - 0.3


def test_other_classes_are_none_of_the_forgotten(classes_world, monkeypatch):
    method, drawn = registry.get("mu_mis"), []
    measured = mu_mis.sensitivities

    def watched(model, x, own, other):
        drawn.append(other)
        return measured(model, x, own, other)

    monkeypatch.setattr(mu_mis, "sensitivities", watched)
    params = method.resolve({"delta": None, "lr": 1e-6})
    method.function(copy.deepcopy(classes_world.original), classes_world.context(method), **params)
    kept = set(range(10)) - set(classes_world.indices.forget_classes)
    assert set(torch.cat(drawn).tolist()) == kept


def test_dropout_is_off(class_world):
    method, seen = registry.get("mu_mis"), []
    for extra in (nn.Dropout(0.5), nn.Identity()):
        context, model = class_world.context(method), copy.deepcopy(class_world.original)
        model.classifier = nn.Sequential(extra, model.classifier)
        method.function(model, context, **method.resolve({"epochs": 2}))
        seen.append([float(e["others"]) for e in context.log_entries if "others" in e])
    assert seen[0] == seen[1]


def passes(world, **params):
    """Return the log's ratios and how many passes were made."""
    method = registry.get("mu_mis")
    context, model = world.context(method), copy.deepcopy(world.original)
    method.function(model, context, **method.resolve({"batch_size": 64, **params}))
    ratios = [entry["ratio"] for entry in context.log_entries if "ratio" in entry]
    return ratios, sum("own" in entry for entry in context.log_entries)


def test_a_model_that_stands_still_is_not_stopped_by_which_classes_are_drawn(class_world):
    ratios, count = passes(class_world, lr=1e-12, epochs=8, delta=1.0)
    assert ratios == [1.0] * 8 and count == 8


def test_it_stops_after_the_pass_that_is_above_delta(class_world):
    ratios, count = passes(class_world, lr=1e-2, epochs=9, delta=1.2)
    assert count == len(ratios) < 9
    assert ratios[-1] > 1.2 and all(ratio <= 1.2 for ratio in ratios[:-1])


def test_the_first_look_is_at_the_original(class_world):
    """One pass and no stop: the ratio must be to what was there before it."""
    method = registry.get("mu_mis")
    context, model = class_world.context(method), copy.deepcopy(class_world.original)
    params = {"lr": 1e-2, "epochs": 1, "batch_size": 5}
    method.function(model, context, **method.resolve(params))
    ratio = context.log_entries[-1]["ratio"]
    examples = class_world.split("forget")
    before, after = (
        mu_mis.irrelevant_norm(m, examples, context) for m in (class_world.original, model)
    )
    assert abs(ratio - after / before) < 1e-5


def test_irrelevant_classes_are_all_but_the_own_and_the_forgotten(classes_world, random_world):
    for world in (classes_world, random_world):
        context = world.context(registry.get("mu_mis"))
        examples = world.split("forget").at(torch.arange(4))
        x, y = next(iter(examples.batches(1000)))
        x.requires_grad_()
        logits, lengths = world.original(x), []
        for row, label in enumerate(y.tolist()):
            for c in set(range(10)) - set(world.indices.forget_classes) - {label}:
                g = torch.autograd.grad(logits[row, c], x, retain_graph=True)[0]
                lengths.append(float(g[row].norm()))
        found = mu_mis.irrelevant_norm(world.original, examples, context)
        assert abs(found / (sum(lengths) / len(lengths)) - 1) < 1e-4
