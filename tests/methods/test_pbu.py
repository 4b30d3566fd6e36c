"""PBU against an independent transcription of the paper's loss in plain torch."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from unlearn_bench.core.errors import MethodError
from unlearn_bench.plugins import registry

OFFICIAL = {
    "batch_norm": "train",
    "stop_accuracy": None,
    "min_steps": 0,
    "epochs": 10,
    "batch_size": 8,
}


def transcription(model, images, order, alpha, beta, gamma, lr=1e-4):
    """The published algorithm, one example and one class at a time where it can be.

    Yields the three terms of each step: -alpha CE, beta Fisher, gamma l2.
    """
    xs, ys = images
    model.eval()
    theta0 = [p.detach().clone() for p in model.parameters()]
    fisher = [torch.zeros_like(p) for p in theta0]
    # Two copies of one example, halved: BatchNorm's backward at batch size 1 is wrong for some
    # layouts, and the mean over two equal rows is the row.
    for x in xs:
        pair = torch.stack([x, x])
        log_p = F.log_softmax(model(pair), dim=1).mean(0)
        for c in range(len(log_p)):
            grads = torch.autograd.grad(log_p[c], list(model.parameters()), retain_graph=True)
            for total, grad in zip(fisher, grads, strict=True):
                total += log_p[c].exp().detach() * grad**2 / len(xs)
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for rows in order:
        ascent = -alpha * F.cross_entropy(model(xs[rows]), ys[rows])
        distance = [(p - p0) ** 2 for p, p0 in zip(model.parameters(), theta0, strict=True)]
        mahalanobis = beta * sum((f * d).sum() for f, d in zip(fisher, distance, strict=True))
        l2 = gamma * sum(d.sum() for d in distance)
        yield ascent.item(), mahalanobis.item(), l2.item()
        optimizer.zero_grad()
        (ascent + mahalanobis + l2).backward()
        optimizer.step()


@pytest.mark.parametrize("weights", [(721, 90, 4001), (1, 0.125, 5.55)])
def test_official_setting_agrees_with_the_transcription_for_20_steps(class_world, weights):
    alpha, beta, gamma = weights
    method = registry.get("pbu")
    context = class_world.context(method)
    log = context.log_entries
    method.function(
        copy.deepcopy(class_world.original),
        context,
        **method.resolve(OFFICIAL | {"alpha": alpha, "beta": beta, "gamma": gamma}),
    )

    # The same batches, found by their images: the transcription shares no code with the method.
    twin = class_world.context(method)
    xs = torch.cat([x for x, _ in twin.forget.batches()])
    ys = torch.cat([y for _, y in twin.forget.batches()])
    order = [
        [int((xs - row).abs().flatten(1).sum(1).argmin()) for row in x]
        for x, _ in twin.forget.epochs(OFFICIAL["epochs"], OFFICIAL["batch_size"], augment=False)
    ]
    slow = list(transcription(copy.deepcopy(class_world.original), (xs, ys), order, *weights))

    assert len(log) >= 20 and len(log) == len(slow)
    for step in range(20):
        fast = [float(log[step][name]) for name in ("ascent", "mahalanobis", "l2")]
        for ours, theirs in zip(fast, slow[step], strict=True):
            assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-9 * alpha)
    # All three terms took part: none agreed by being zero.
    assert all(abs(value) > 0 for value in slow[19])


def parameters(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_only_the_ratios_of_the_weights_matter(class_world):
    short = {"epochs": 2, "min_steps": 0, "stop_accuracy": None}
    one = class_world.unlearn("pbu", alpha=1, beta=0.125, gamma=5.0, **short)
    large = class_world.unlearn("pbu", alpha=800, beta=100, gamma=4000.0, **short)
    start = parameters(class_world.original)
    moved = (parameters(one) - start).norm()
    # Adam's eps is all that knows the scale.
    assert (parameters(one) - parameters(large)).norm() < 0.1 * moved


def running_statistics(model):
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm)]
    return torch.cat([t for m in norms for t in (m.running_mean, m.running_var)])


@pytest.mark.parametrize(("mode", "moves"), [("train", True), ("batch", False), ("eval", False)])
def test_batch_norm_statistics_move_only_in_train_mode(class_world, mode, moves):
    params = {"epochs": 1, "min_steps": 0, "stop_accuracy": None, "batch_norm": mode}
    model = class_world.unlearn("pbu", **params)
    before, after = running_statistics(class_world.original), running_statistics(model)
    assert torch.equal(before, after) is not moves


def test_batch_and_eval_mode_differ(class_world):
    short = {"epochs": 1, "min_steps": 0, "stop_accuracy": None}
    batch = class_world.unlearn("pbu", batch_norm="batch", **short)
    running = class_world.unlearn("pbu", batch_norm="eval", **short)
    assert not torch.equal(next(batch.parameters()), next(running.parameters()))


def steps_taken(world, **params):
    method = registry.get("pbu")
    context = world.context(method)
    method.function(copy.deepcopy(world.original), context, **method.resolve(params))
    return len(context.log_entries)


def test_it_stops_once_the_forget_set_is_forgotten(class_world):
    params = {"lr": 2e-3, "gamma": 0.1, "min_steps": 200, "batch_size": 8}
    stopped = steps_taken(class_world, stop_accuracy=0.01, **params)
    assert stopped < steps_taken(class_world, stop_accuracy=None, **params)
    assert stopped % 8 == 0


def test_small_forget_sets_get_the_minimum_of_steps(class_world):
    per_pass = -(-len(class_world.indices.forget) // 16)
    params = {"epochs": 1, "stop_accuracy": None, "batch_size": 16}
    assert steps_taken(class_world, min_steps=0, **params) == per_pass
    assert 10 <= steps_taken(class_world, min_steps=10, **params) < 10 + per_pass


def test_divergence_is_an_error_and_not_a_result(class_world):
    with pytest.raises(MethodError, match=r"raise pbu\.gamma"):
        class_world.unlearn(
            "pbu", lr=1e12, gamma=0, beta=0, batch_norm="eval", stop_accuracy=None, min_steps=60
        )
