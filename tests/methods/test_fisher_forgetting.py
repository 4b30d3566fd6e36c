"""Fisher forgetting: how much noise each weight gets."""

import copy

import pytest
import torch
from unlearn_bench_methods import fisher_forgetting

from unlearn_bench.fisher import fisher_diagonal
from unlearn_bench.plugins import registry


@pytest.fixture(scope="module")
def information(class_world):
    model = copy.deepcopy(class_world.original)
    return fisher_diagonal(model, class_world.split("retain").batches(64), kind="true")


@pytest.fixture(autouse=True)
def known(monkeypatch, information):
    """Take the Fisher information from the fixture: computing it is what takes time here."""

    def given(model, batches, kind):
        assert kind == "true" and sum(len(x) for x, _ in batches) > 0
        return information

    monkeypatch.setattr(fisher_forgetting, "fisher_diagonal", given)


PLAIN = {"official_scaling": False, "reset_rows": False}


def noise(world, seed=0, **params):
    after = world.unlearn("fisher_forgetting", seed=seed, **params)
    before = dict(world.original.named_parameters())
    return {n: (p - before[n]).detach() for n, p in after.named_parameters()}


def test_without_noise_nothing_changes(class_world):
    assert all(not part.any() for part in noise(class_world, alpha=0, reset_rows=False).values())


@pytest.mark.parametrize("power", [0.5, 1.0])
def test_the_noise_has_the_stated_variance(class_world, information, power):
    added = noise(class_world, alpha=1e-4, power=power, **PLAIN)
    standard = []
    for name, part in added.items():
        variance = 1e-4 * (information[name] + 1e-8).pow(-power).clamp(max=1e3)
        standard.append((part / variance.sqrt()).flatten())
    z = torch.cat(standard)
    assert abs(z.mean()) < 0.01 and abs(z.std() - 1) < 0.01
    assert 0.95 < (z.abs() < 2).float().mean() < 0.96


def test_weights_that_the_retain_set_needs_least_move_most(class_world, information):
    added = noise(class_world, power=0.5, **PLAIN)
    flat = torch.cat([part.abs().flatten() for part in added.values()])
    needed = torch.cat([information[name].flatten() for name in added])
    order = needed.argsort()
    tenth = len(order) // 10
    assert flat[order[:tenth]].mean() > 3 * flat[order[-tenth:]].mean()


def test_the_official_scaling_averages_over_inputs_and_favours_vectors_and_the_head(
    class_world, information
):
    added = noise(class_world, alpha=1e-4, power=1.0, reset_rows=False)
    head = "classifier.weight"
    standard = []
    for name, part in added.items():
        is_head = name.startswith("classifier.")
        variance = (1e-4 / (information[name] + 1e-8)).clamp(max=1e-2 if is_head else 1e-1)
        if part.dim() > 1:
            variance = variance.mean(1, keepdim=True).expand_as(part)
        if is_head or part.dim() == 1:
            variance = variance * 10
        standard.append((part / variance.sqrt()).flatten())
    assert head in added
    assert all(abs(z.std() - 1) < 0.15 for z in standard if len(z) > 300)
    assert abs(torch.cat(standard).std() - 1) < 0.01


def test_rows_of_forgotten_classes_are_drawn_around_zero_with_the_heads_tenfold_variance(
    class_world,
):
    drawn = torch.cat(
        [class_world.unlearn("fisher_forgetting", seed=s).classifier.weight[8] for s in range(40)]
    )
    assert 0.9 < drawn.std() / 1e-3**0.5 < 1.1 and abs(drawn.mean()) < 0.01
    model = class_world.unlearn("fisher_forgetting")
    assert model.classifier.bias[8].abs() < 0.15
    plain = class_world.unlearn("fisher_forgetting", reset_rows=False).classifier.weight
    others = [c for c in range(10) if c != 8]
    assert torch.equal(model.classifier.weight[others], plain[others])


def test_no_hidden_unit_of_a_head_is_drawn_around_zero(class_world, monkeypatch):
    world = copy.copy(class_world)
    world.original = copy.deepcopy(class_world.original)
    torch.manual_seed(0)
    hidden = torch.nn.Linear(world.original.classifier.in_features, 32)
    world.original.classifier = torch.nn.Sequential(
        hidden, torch.nn.ReLU(), torch.nn.Linear(32, 10)
    )
    known = {name: torch.ones_like(p) for name, p in world.original.named_parameters()}
    monkeypatch.setattr(fisher_forgetting, "fisher_diagonal", lambda model, batches, kind: known)
    model = world.unlearn("fisher_forgetting", alpha=1e-8)
    assert torch.allclose(model.classifier[0].weight, hidden.weight, atol=1e-2)
    row = world.original.classifier[2].weight[8]
    assert (model.classifier[2].weight[8] - row).norm() > 0.9 * row.norm()


def test_no_row_is_reset_where_no_class_is_forgotten(random_world):
    one = random_world.unlearn("fisher_forgetting").get_classifier().weight
    other = random_world.unlearn("fisher_forgetting", reset_rows=False).get_classifier().weight
    assert torch.equal(one, other)


def test_only_the_retain_set_is_read():
    assert not registry.get("fisher_forgetting").access.forget
