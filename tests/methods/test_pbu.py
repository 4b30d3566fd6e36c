"""PBU: the published steps against an independent transcription, and what trust steps promise."""

import copy
import math
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from unlearn_bench_methods import pbu

from unlearn_bench.core.errors import MethodError
from unlearn_bench.data.datasets import load
from unlearn_bench.measure.clock import Passes
from unlearn_bench.measure.probes.batch_norm import reestimated
from unlearn_bench.plugins import registry
from unlearn_bench.suite.recipe import Recipe

from .conftest import accuracies

METHOD = registry.get("pbu")
CONVERGED = Recipe(epochs=30, batch_size=32, lr=4e-3, augment="none")

OFFICIAL = {
    "step": "adam",
    "fisher_examples": None,
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


ADAM = {"step": "adam", "batch_norm": "batch"}
LONG = {"stop_accuracy": None, "epochs": 3, "min_steps": 0, "batch_size": 8}


def parameters(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("params", [ADAM, {}])
def test_only_the_ratios_of_the_weights_matter(class_world, params):
    short = {"epochs": 2, "min_steps": 0, "stop_accuracy": None, **params}
    one = class_world.unlearn("pbu", alpha=1, beta=0.125, gamma=5.0, **short)
    large = class_world.unlearn("pbu", alpha=800, beta=100, gamma=4000.0, **short)
    start = parameters(class_world.original)
    moved = (parameters(one) - start).norm()
    # Adam's eps is all that knows the scale; trust steps know none.
    assert (parameters(one) - parameters(large)).norm() < 0.1 * moved


def running_statistics(model):
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm)]
    return torch.cat([t for m in norms for t in (m.running_mean, m.running_var)])


@pytest.mark.parametrize("step", ["trust", "adam"])
@pytest.mark.parametrize(
    ("mode", "moves"),
    [("train", True), ("batch", False), ("eval", False), ("aligned", False), ("realigned", True)],
)
def test_batch_norm_statistics_move_only_in_train_and_realigned_mode(
    class_world, step, mode, moves
):
    params = {"epochs": 1, "min_steps": 0, "stop_accuracy": None, "batch_norm": mode, "step": step}
    model = class_world.unlearn("pbu", **params)
    before, after = running_statistics(class_world.original), running_statistics(model)
    assert torch.equal(before, after) is not moves


def test_batch_norm_modes_differ(class_world):
    short = {"epochs": 1, "min_steps": 0, "stop_accuracy": None}
    moved = [
        next(class_world.unlearn("pbu", batch_norm=mode, **short).parameters())
        for mode in ("batch", "eval", "aligned")
    ]
    assert not any(torch.equal(moved[i], moved[i - 1]) for i in range(3))


class Diary:
    """What PBU did to a copy of a world's original: the weights before and after every step."""

    def __init__(self, world, **params):
        method = registry.get("pbu")
        self.model = copy.deepcopy(world.original)
        context = world.context(method)
        self.weights = [copy.deepcopy(world.original)]
        self.entries = []
        self.batches = []

        def log(**entry):
            self.entries.append(entry)
            self.weights.append(copy.deepcopy(self.model))

        def epochs(*args, **kwargs):
            for x, y in every_epoch(*args, **kwargs):
                self.batches.append((x, y))
                yield x, y

        every_epoch = context.forget.epochs
        context.forget.epochs = epochs
        context.log = log
        self.passes = Passes()
        self.passes.watch(self.model)
        method.function(self.model, context, **method.resolve(params))
        self.passes.stop()


@pytest.fixture(scope="module")
def lenet_world(worlds):
    """A net without BatchNorm that has converged: cross-entropy on F is nearly 0."""
    digits = load("digits", image_size=16)
    return worlds("class:8", data=digits, architecture="lenet", recipe=CONVERGED, logged=False)


@pytest.fixture(scope="module")
def lenet_random_world(worlds):
    digits = load("digits", image_size=16)
    return worlds("random:0.1", data=digits, architecture="lenet", recipe=CONVERGED, logged=False)


@pytest.mark.parametrize("ascent", ["odds", "cross_entropy"])
@pytest.mark.parametrize("delta", [0.1, 0.5])
def test_no_step_moves_its_batch_s_loss_by_more_than_delta(lenet_world, ascent, delta):
    diary = Diary(lenet_world, delta=delta, ascent=ascent, **LONG)
    losses = [
        [float(F.cross_entropy(model(x), y).detach()) for model in diary.weights[i : i + 2]]
        for i, (x, y) in enumerate(diary.batches)
    ]
    rises = [after - before for before, after in losses]
    assert max(map(abs, rises)) <= delta * 1.001
    assert max(rises) > delta / 4  # and they do not dawdle


@pytest.mark.parametrize("ascent", ["odds", "cross_entropy"])
@pytest.mark.parametrize("gone", [(), (2,)])
def test_the_ascent_is_of_all_that_goes_and_holds_all_that_stays(gone, ascent):
    generator = torch.Generator().manual_seed(0)
    logits, original = torch.randn(2, 5, 4, generator=generator, dtype=torch.float64)
    y = torch.tensor([0, 1, 2, 3, 2])
    losses = []
    for now, was, t in zip(torch.softmax(logits, 1), torch.softmax(original, 1), y, strict=True):
        goes = {int(t), *gone}
        left, left_before = (1 - sum(row[c] for c in goes) for row in (now, was))
        climbed = -math.log(left) if ascent == "odds" else math.log(now[int(t)])
        held = sum(
            was[c] / left_before * math.log((was[c] / left_before) / (now[c] / left))
            for c in range(4)
            if c not in goes
        )
        losses.append(3 * (climbed + 2 * held))
    climb = pbu.Ascent(ascent, gone, alpha=3, others=2)
    assert float(climb(logits, original, y)) == pytest.approx(float(sum(losses)) / len(losses))


def test_the_ascent_grows_against_what_holds_it():
    """Else a small forget set ends where both are equal, with the class remembered."""
    logits, original = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0))
    y = torch.tensor([0, 1, 2, 3, 2])
    climb = pbu.Ascent("odds", (), alpha=1, others=1)
    free = pbu.Ascent("odds", (), alpha=1, others=0)
    held = climb(logits, original, y) - (first := free(logits, original, y))
    for step in range(1, 4):
        grown = free(logits, original, y)
        assert grown == pytest.approx(float(first) * pbu.GROWTH**step)
        assert climb(logits, original, y) - grown == pytest.approx(float(held), rel=1e-4)


def correlation(model, original, x, gone):
    """Over the classes that stay, by numpy's definition, mean over the images."""
    stays = [c for c in range(10) if c != gone]
    with torch.no_grad():
        pairs = zip(model(x)[:, stays], original(x)[:, stays], strict=True)
    return float(np.mean([np.corrcoef(ours, theirs)[0, 1] for ours, theirs in pairs]))


def test_no_step_takes_more_than_its_share_of_the_other_classes(lenet_world):
    # Without the divergence, and with large steps, only the limit keeps them.
    diary = Diary(lenet_world, others=0, delta=5, **LONG)
    falls = []
    for i, (x, _) in enumerate(diary.batches):
        before, after = (
            correlation(model, lenet_world.original, x, 8) for model in diary.weights[i : i + 2]
        )
        assert after == pytest.approx(diary.entries[i]["kept"], abs=1e-5)
        falls.append(before - after)
    assert 0.005 < max(falls) <= pbu.KEPT_FALL + 1e-5


def test_the_divergence_keeps_the_other_classes_on_f(lenet_world):
    x, _ = next(lenet_world.split("forget").batches(1000))
    kept = {
        others: correlation(lenet_world.unlearn("pbu", others=others), lenet_world.original, x, 8)
        for others in (0.0, 1.0)
    }
    assert kept[1.0] > 0.97 and 1 - kept[1.0] < (1 - kept[0.0]) / 2


@pytest.mark.parametrize("world", ["class_world", "classes_world", "lenet_world"])
def test_classes_are_forgotten_and_the_rest_is_kept(world, request):
    world = request.getfixturevalue(world)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        forget, retain = accuracies(world, world.unlearn("pbu"))
    assert forget <= 0.02
    assert retain >= accuracies(world, world.original)[1] - 0.03


@pytest.mark.parametrize("world", ["random_world", "lenet_random_world"])
def test_examples_of_classes_that_stay_leave_no_wreck_and_a_warning(world, request):
    world = request.getfixturevalue(world)
    with pytest.warns(UserWarning, match="published for whole classes"):
        model = world.unlearn("pbu")
    for before, after in zip(
        accuracies(world, world.original), accuracies(world, model), strict=True
    ):
        assert after >= before - 0.05
    assert not torch.equal(parameters(model), parameters(world.original))


def test_a_step_that_damages_the_classes_that_stay_is_taken_back(lenet_world, monkeypatch):
    free = Diary(lenet_world, others=0)
    kept = [float(entry["kept"]) for entry in free.entries]
    limit = sum(kept[4:6]) / 2  # the original's behaviour is lost step by step
    monkeypatch.setattr(pbu, "CORRELATION_KEPT", limit)
    with pytest.warns(UserWarning, match="the logits of the other classes"):
        guarded = Diary(lenet_world, others=0)
    assert [float(entry["kept"]) for entry in guarded.entries] == kept[:6]
    assert torch.equal(parameters(guarded.model), parameters(free.weights[5]))


def test_a_trust_step_goes_along_the_gradient_and_back_towards_the_start(
    lenet_world,
):
    diary = Diary(lenet_world, ascent="cross_entropy", others=0, beta=0, gamma=2, alpha=3, **LONG)
    start = parameters(lenet_world.original)
    for step in range(4):
        before, (x, y) = diary.weights[step], diary.batches[step]
        before.zero_grad()
        F.cross_entropy(before(x), y).backward()
        gradient = torch.cat([p.grad.flatten() for p in before.parameters()])
        origin, length = parameters(before), float(diary.entries[step]["length"])
        share = min(1, 2 * length * 2)
        weight = 3 * pbu.GROWTH**step
        expected = origin + length * weight * gradient - share * (origin - start)
        assert torch.allclose(parameters(diary.weights[step + 1]), expected, atol=1e-6)


@pytest.mark.parametrize("world", ["lenet_world", "class_world"])
def test_only_the_last_trust_step_is_past_the_threshold(world, request, monkeypatch):
    world = request.getfixturevalue(world)
    monkeypatch.setattr(pbu, "CORRELATION_KEPT", -1.0)
    diary = Diary(world, batch_size=8, stop_accuracy=0.05, batch_norm="eval")
    x, y = next(world.split("forget").batches(1000))  # fewer than the stop rule looks at

    def right(model):
        with torch.no_grad():
            return float((model.eval()(x).argmax(1) == y).float().mean())

    seen = [right(model) for model in diary.weights]
    assert len(seen) > 3
    assert seen[-1] <= 0.05 < min(seen[:-1])


def test_a_converged_net_forgets_and_keeps_the_rest_where_adam_wrecks_it(lenet_world):
    old = ADAM | {"gamma": 15.0, "min_steps": 400}
    forget, retain = accuracies(lenet_world, lenet_world.unlearn("pbu"))
    assert forget <= 0.02 and retain >= 0.99
    forget, retain = accuracies(lenet_world, lenet_world.unlearn("pbu", **old))
    assert forget > 0.02 or retain < 0.985


def test_what_is_forgotten_does_not_come_back_with_batch_norm_s_statistics(class_world):
    def recovered(**params):
        model = class_world.unlearn("pbu", **params)
        retained = class_world.indices.retain
        renewed = reestimated(model, class_world.data, retained, torch.device("cpu"))
        return accuracies(class_world, renewed)[0]

    assert recovered() <= 0.2
    assert recovered(batch_norm="realigned") <= 0.2
    assert recovered(batch_norm="eval") > 0.5


@pytest.mark.parametrize("step", ["trust", "adam"])
def test_the_fisher_information_is_that_of_so_many_examples(class_world, step):
    touched = {}
    for examples in (5, None, 512):
        class_world.unlearn("pbu", fisher_examples=examples, step=step, **LONG)
        touched[examples] = class_world.ledger["forget"]
    size = len(class_world.indices.forget)
    assert touched[None] - touched[5] == size - 5
    assert touched[512] == touched[None]


@pytest.mark.parametrize(("world", "passes"), [("lenet_world", 3), ("class_world", 4)])
def test_every_pass_of_a_trust_step_is_counted(world, passes, request):
    """Gradient and rise, the original's pass, and one more of it where BatchNorm is aligned."""
    world = request.getfixturevalue(world)
    some = Diary(world, fisher_examples=5, **LONG | {"epochs": 1})
    more = Diary(world, fisher_examples=5, **LONG | {"epochs": 2})
    stepped = sum(len(x) for x, _ in more.batches) - sum(len(x) for x, _ in some.batches)
    counted = {
        way: more.passes.examples[way] - some.passes.examples[way]
        for way in ("forward", "backward")
    }
    assert counted["backward"] == stepped
    assert counted["forward"] >= passes * stepped


def steps_taken(world, **params):
    return len(Diary(world, **params).entries)


def test_adam_stops_once_the_forget_set_is_forgotten(class_world):
    params = {"lr": 2e-3, "gamma": 0.1, "min_steps": 200, "batch_size": 8, **ADAM}
    stopped = steps_taken(class_world, stop_accuracy=0.01, **params)
    assert stopped < steps_taken(class_world, stop_accuracy=None, **params)
    assert stopped % 8 == 0


def test_small_forget_sets_get_the_minimum_of_steps(class_world):
    per_pass = -(-len(class_world.indices.forget) // 16)
    params = {"epochs": 1, "stop_accuracy": None, "batch_size": 16}
    assert steps_taken(class_world, min_steps=0, **params) == per_pass
    assert 10 <= steps_taken(class_world, min_steps=10, **params) < 10 + per_pass


def test_divergence_is_an_error_and_not_a_result(class_world):
    diverging = {"lr": 1e12, "gamma": 0, "beta": 0, "stop_accuracy": None, "min_steps": 60}
    with pytest.raises(MethodError, match=r"raise pbu\.gamma"):
        class_world.unlearn("pbu", step="adam", batch_norm="eval", **diverging)


@pytest.mark.parametrize("fault", ["flat", "nan"])
def test_a_net_that_nothing_leads_up_from_ends_and_does_not_search_for_ever(lenet_world, fault):
    model = copy.deepcopy(lenet_world.original)
    head = list(model.parameters())[-1]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        # So sure of another class that the true one's probability is 0 in float32.
        head[3] = 1e4 if fault == "flat" else math.nan
    context = lenet_world.context(METHOD)
    params = METHOD.resolve({"batch_norm": "eval", "min_steps": 3, "stop_accuracy": None})
    if fault == "nan":
        with pytest.raises(MethodError, match="NaN"):
            METHOD.function(model, context, **params)
    else:
        METHOD.function(model, context, **params)
        assert all(p.isfinite().all() for p in model.parameters())
