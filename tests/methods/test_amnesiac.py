"""Amnesiac unlearning subtracts what the log says, then repairs."""

import copy
from dataclasses import replace

import pytest
import torch

from unlearn_bench.core.errors import AccessError
from unlearn_bench.plugins import registry
from unlearn_bench.toolkit.context import TrainingLog

METHOD = registry.get("amnesiac")


def run(world, log, **params):
    changed = replace(world, log=log)
    ctx = changed.context(METHOD)
    model = copy.deepcopy(world.original)
    return METHOD.function(model, ctx, **METHOD.resolve(params)), ctx.log_entries


def nothing(world):
    return {name: torch.zeros_like(t) for name, t in world.log.change.items()}


def test_it_subtracts_the_logged_updates_and_leaves_buffers(class_world):
    model, log = run(class_world, class_world.log, repair_epochs=0)
    for name, parameter in model.named_parameters():
        expected = class_world.original.get_parameter(name).double() - class_world.log.change[name]
        assert torch.allclose(parameter.double(), expected, atol=1e-6)
    for ours, theirs in zip(model.buffers(), class_world.original.buffers(), strict=True):
        assert torch.equal(ours, theirs)
    hits, steps = class_world.log.hits, class_world.log.steps
    assert 0.85 * steps < hits < steps == 12 * 9
    assert log == [{"hits": hits, "steps": steps, "hit_share": hits / steps}]


def test_nothing_is_read_of_the_data_without_a_repair(class_world):
    class_world.unlearn("amnesiac", repair_epochs=0)
    assert not class_world.ledger


def test_nothing_changes_where_no_batch_held_forgotten_data(class_world):
    untouched = TrainingLog(nothing(class_world), 0, 36)
    model, _ = run(class_world, untouched, repair_epochs=0)
    for ours, theirs in zip(model.parameters(), class_world.original.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_nearly_every_step_hit_leaves_nearly_the_initial_weights(class_world):
    model, _ = run(class_world, class_world.log, repair_epochs=0)
    fresh = dict(class_world.task.new_original().named_parameters())
    trained = dict(class_world.original.named_parameters())
    with torch.no_grad():
        left = sum((p - fresh[name]).square().sum() for name, p in model.named_parameters())
        moved = sum((trained[name] - fresh[name]).square().sum() for name in fresh)
    assert 0 < left < 0.05 * moved


def test_the_repair_trains_on_the_retain_set(class_world):
    _, log = run(class_world, class_world.log, repair_epochs=6, lr=1e-2)
    losses = [float(entry["retain_loss"]) for entry in log[1:]]
    assert len(losses) == 6 * 4 and losses[-1] < 0.6 * losses[0]


def test_without_a_log_it_refuses(class_world):
    with pytest.raises(AccessError, match="training log"):
        run(class_world, None)
