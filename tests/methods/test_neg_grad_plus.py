"""NegGrad+ is fine-tuning at one end, gradient ascent at the other, and the mixture between."""

import copy

import pytest
import torch
from torch.nn.functional import cross_entropy

from unlearn_bench.plugins import registry

EVAL = {"batch_norm": "eval", "forget_batch_norm": "eval"}


def same(a, b):
    a, b = a.state_dict(), b.state_dict()
    return all(torch.equal(a[name], b[name]) for name in a)


def test_all_weight_on_the_retain_loss_is_finetuning(class_world):
    shared = {"epochs": 2, "lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4, "batch_size": 64}
    tuned = class_world.unlearn("finetune", **shared)
    apart = {"batch_norm": "train", "forget_batch_norm": "eval"}
    mixed = class_world.unlearn("neg_grad_plus", alpha=1.0, **apart, **shared)
    assert same(tuned, mixed)


def test_all_weight_on_the_forget_loss_is_gradient_ascent(class_world):
    # 245 examples of R in batches of 50 are 5 steps; 25 of F in batches of 5 as well.
    assert len(class_world.indices.retain) == 245 and len(class_world.indices.forget) == 25
    shared = {"lr": 1e-5, "momentum": 0.9, "epochs": 2}
    climbed = class_world.unlearn("gradient_ascent", batch_size=5, batch_norm="eval", **shared)
    mixed = class_world.unlearn(
        "neg_grad_plus", alpha=0.0, batch_size=50, forget_batch_size=5, **EVAL, **shared
    )
    assert same(climbed, mixed)


@pytest.mark.parametrize("anchor", [0.0, 5.0])
def test_steps_agree_with_slow_code(class_world, anchor):
    lr, alpha = 0.01, 0.8
    world = class_world.exactly()  # in float32 rounding grows from step to step
    sizes = {"batch_size": 100, "forget_batch_size": 128}
    fast = world.unlearn(
        "neg_grad_plus", epochs=1, lr=lr, alpha=alpha, anchor=anchor, **sizes, **EVAL
    )

    slow = copy.deepcopy(world.original)
    start = [p.detach().clone() for p in slow.parameters()]
    ctx = world.context(registry.get("neg_grad_plus"))
    forget = [batch for _ in range(3) for batch in ctx.forget.epochs(1, 128)]
    for (x, y), (x_f, y_f) in zip(ctx.retain.epochs(1, 100), forget, strict=True):
        keep = torch.autograd.grad(cross_entropy(slow(x), y), list(slow.parameters()))
        lose = torch.autograd.grad(cross_entropy(slow(x_f), y_f), list(slow.parameters()))
        with torch.no_grad():
            for p, p0, up, down in zip(slow.parameters(), start, keep, lose, strict=True):
                p -= lr * (alpha * (up + anchor * (p - p0)) - (1 - alpha) * down)
    for ours, theirs in zip(fast.parameters(), slow.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-12)


def test_running_statistics_follow_the_modes(class_world):
    def moved(**modes):
        model = class_world.unlearn("neg_grad_plus", epochs=1, alpha=1.0, **modes)
        before = dict(class_world.original.named_buffers())
        return any(not torch.equal(b, before[name]) for name, b in model.named_buffers())

    assert not moved(batch_norm="eval", forget_batch_norm="eval")
    assert not moved(batch_norm="batch", forget_batch_norm="batch")
    assert moved(batch_norm="train", forget_batch_norm="eval")
    assert moved(batch_norm="eval", forget_batch_norm="train")


def test_the_defaults_are_one_published_setting():
    """Alpha, anchor, epochs and BatchNorm's mode go together: each alone weighs otherwise."""
    defaults = registry.get("neg_grad_plus").resolve({})
    large = {"alpha": 0.9999, "anchor": 0, "lr": 0.01, "epochs": 5, "batch_norm": "train"}
    assert {name: defaults[name] for name in large} == large
    assert defaults["forget_batch_norm"] == "train"
