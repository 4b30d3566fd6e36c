"""DELETE imitates the original without the true class, and nothing else."""

import copy

import pytest
import torch

from unlearn_bench.api import kl_divergence


def soft_targets(world, classes=()):
    """The original's probabilities p and the target q, class by class and example by example."""
    x, y = next(iter(world.split("forget").batches(1000)))
    with torch.no_grad():
        p = world.original(x).softmax(1)
    q = p.clone()
    for row, label in enumerate(y.tolist()):
        for gone in {label, *classes}:
            q[row, gone] = 0
        q[row] /= q[row].sum()
    return x, y, p, q


@pytest.mark.parametrize("mask", ["own", "all_forget"])
@pytest.mark.parametrize("name", ["class_world", "classes_world"])
def test_the_gradient_of_the_logits_is_p_minus_q(request, name, mask):
    world = request.getfixturevalue(name)
    step = world.unlearn("delete", epochs=1, lr=0.5, batch_size=1000, mask=mask)
    _, _, p, q = soft_targets(world, world.indices.forget_classes if mask == "all_forget" else ())
    # The head's bias gets the mean gradient of the logits.
    moved = (step.classifier.bias - world.original.classifier.bias).detach()
    assert torch.allclose(moved, -0.5 * (p - q).mean(0), atol=1e-6)


def test_the_true_class_vanishes_and_the_others_keep_their_ratios(class_world):
    model = class_world.unlearn("delete", lr=1e-2, epochs=40)
    x, y, _, q = soft_targets(class_world)
    with torch.no_grad():
        logits = model(x)
        before = kl_divergence(q.log(), class_world.original(x))
    assert logits.softmax(1)[torch.arange(len(y)), y].max() < 0.05
    assert kl_divergence(q.log(), logits) < 0.05 * before


def test_the_loss_is_finite_from_the_start(class_world):
    from unlearn_bench.plugins import registry

    method = registry.get("delete")
    ctx = class_world.context(method)
    method.function(copy.deepcopy(class_world.original), ctx, **method.resolve({"epochs": 1}))
    assert all(torch.isfinite(entry["divergence"]) for entry in ctx.log_entries)
    assert ctx.log_entries[0]["divergence"] > 0
