"""SCRUB's passes and schedule, and where SCRUB+R rewinds to."""

import copy

import pytest
import torch
from unlearn_bench_methods import scrub

from unlearn_bench.plugins import registry


def run(world, name="scrub", **params):
    method = registry.get(name)
    ctx = world.context(method)
    model = copy.deepcopy(world.original)
    return method.function(model, ctx, **method.resolve(params)), ctx.log_entries


def same(a, b):
    a, b = a.state_dict(), b.state_dict()
    return all(torch.equal(a[name], b[name]) for name in a)


def test_staying_with_the_original_alone_changes_nothing(class_world):
    model, _ = run(class_world, msteps=0, gamma=0, alpha=1, weight_decay=0, batch_norm="eval")
    for ours, theirs in zip(model.parameters(), class_world.original.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-7)
    for ours, theirs in zip(model.buffers(), class_world.original.buffers(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("msteps", [0, 1, 2, 5])
def test_the_forget_set_is_passed_over_in_the_first_msteps_epochs(class_world, msteps):
    _, log = run(class_world, epochs=3, msteps=msteps, forget_batch_size=25, batch_size=128)
    kinds = ["forget" if "forget_distance" in entry else "retain" for entry in log]
    epoch = ["retain"] * 2
    passes = min(msteps, 3)
    assert kinds == (["forget"] + epoch) * passes + epoch * (3 - passes)


def test_defaults_are_those_that_the_official_notebooks_run():
    large = {"epochs": 3, "msteps": 2, "gamma": 0.99, "alpha": 0.001, "batch_size": 256}
    assert large.items() <= registry.get("scrub").resolve({}).items()
    # The run against membership inference, which rewinds.
    rewinding = {"epochs": 5, "msteps": 3, "gamma": 1.0, "alpha": 0.5, "batch_size": 32}
    assert rewinding.items() <= registry.get("scrub_r").resolve({}).items()


@pytest.mark.parametrize(
    ("published", "forgotten", "batch"),
    [(512, 5000, 512), (512, 4000, 500), (512, 300, 37), (16, 300, 16), (16, 100, 12), (512, 3, 2)],
)
def test_the_forget_batch_is_cut_until_a_pass_has_eight_steps(published, forgotten, batch):
    assert scrub.at_most(published, forgotten) == batch
    assert forgotten < 16 or -(-forgotten // batch) >= 8


@pytest.mark.parametrize("name", ["scrub", "scrub_r"])
def test_by_default_a_pass_leads_away_in_eight_steps_at_least(class_world, name):
    _, log = run(class_world, name, epochs=1, msteps=1)
    assert sum("forget_distance" in entry for entry in log) >= 8


def test_distances_carry_the_squared_temperature(class_world):
    _, log = run(class_world, epochs=1, msteps=1, temperature=2.0, forget_batch_size=25)
    x, _ = next(class_world.context(registry.get("scrub")).forget.epochs(1, 25))
    student = copy.deepcopy(class_world.original).train()
    with torch.no_grad():
        p, q = (class_world.original(x) / 2).softmax(1), (student(x) / 2).softmax(1)
    expected = 4 * float((p * (p / q).log()).sum()) / len(x)
    assert expected > 1e-3
    assert float(log[0]["forget_distance"]) == pytest.approx(expected, rel=1e-4)


def test_the_forget_pass_leads_away_from_the_original(class_world):
    _, log = run(class_world, epochs=4, msteps=4, gamma=0, alpha=0, lr=2e-2, forget_batch_size=25)
    away = [float(entry["forget_distance"]) for entry in log if "forget_distance" in entry]
    assert away == sorted(away) and away[-1] > 2 * away[0]


def test_the_step_size_falls_after_each_milestone(class_world, monkeypatch):
    rates = []
    step = torch.optim.SGD.step

    def spy(self, *args, **kwargs):
        rates.append(self.param_groups[0]["lr"])
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.SGD, "step", spy)
    run(class_world, epochs=3, msteps=0, batch_size=245, lr=0.01, milestones=[1, 2])
    assert rates == pytest.approx([0.01, 0.001, 0.0001])
    rates.clear()
    run(class_world, msteps=0, batch_size=245, lr=0.01)
    assert rates == [0.01] * 3, "a milestone of the large scale is reached"


def test_the_nearest_error_wins_and_of_equals_the_earliest():
    assert scrub.nearest([0.0, 0.4, 0.9, 1.0], 0.5) == 1
    assert scrub.nearest([0.0, 1.0, 0.5, 0.5], 0.5) == 2
    assert scrub.nearest([0.25, 0.75], 0.5) == 0


@pytest.fixture
def accuracies(monkeypatch):
    """Let the method see given accuracies: after each epoch on F, then on validation."""

    def give(*values):
        left = list(values)
        monkeypatch.setattr(scrub, "accuracy", lambda model, batches: left.pop(0))

    return give


QUICK = {"epochs": 2, "msteps": 1, "lr": 5e-3, "batch_size": 128, "forget_batch_size": 25}
QUICK |= {"gamma": 0.99, "alpha": 0.001}  # scrub and scrub_r differ in defaults


def test_it_rewinds_to_the_original_where_that_is_nearest(class_world, accuracies):
    accuracies(0.9, 0.5, 0.1, 0.9)
    model, log = run(class_world, "scrub_r", **QUICK)
    assert same(model, class_world.original)
    assert log[-1]["chosen_epoch"] == 0 and log[-1]["reference_error"] == pytest.approx(0.1)


@pytest.mark.parametrize(("reference", "epochs"), [(0.5, 1), (0.1, 2)])
def test_it_rewinds_to_the_epoch_that_is_nearest(class_world, accuracies, reference, epochs):
    accuracies(0.9, 0.5, 0.1, reference)
    model, _ = run(class_world, "scrub_r", **QUICK)
    stopped, _ = run(class_world, "scrub", **QUICK | {"epochs": epochs})
    assert same(model, stopped)


def test_the_reference_is_the_error_on_held_out_examples_of_the_forgotten_class(class_world):
    model, log = run(class_world, "scrub_r", epochs=1, msteps=0, lr=1e-7)
    held_out = class_world.split("validation")
    x, y = next(iter(held_out.batches(1000)))
    with torch.no_grad():
        right = (model(x[y == 8]).argmax(1) == 8).double().mean()
    assert log[-1]["reference_error"] == pytest.approx(1 - float(right))
    class_world.unlearn("scrub_r", epochs=1)
    assert class_world.ledger["validation"] == int((held_out.labels == 8).sum()) > 0
