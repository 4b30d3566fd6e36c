"""JiT's estimate of the local Lipschitz constant, on functions where it is known."""

import copy

import pytest
import torch
from torch import nn
from unlearn_bench_methods import jit
from unlearn_bench_methods.jit import lipschitz

from unlearn_bench.plugins import registry


def estimate(model, x, copies=5, seed=0, **options):
    options = {"detach": True, "clamp": False} | options
    return lipschitz(model, x, 0.5, copies, torch.Generator().manual_seed(seed), **options)


class Constant(nn.Module):
    def __init__(self):
        super().__init__()
        self.value = nn.Parameter(torch.ones(3))

    def forward(self, x):
        return self.value.expand(len(x), 3)


@pytest.mark.parametrize("detach", [True, False])
def test_a_constant_function_is_flat(detach):
    model = Constant()
    loss = estimate(model, torch.randn(4, 6), detach=detach)
    loss.backward()
    assert loss == 0 and torch.isfinite(model.value.grad).all()


def test_a_scaled_rotation_has_its_scale(monkeypatch):
    model = nn.Linear(6, 6, bias=False)
    nn.init.orthogonal_(model.weight, gain=3.0)
    x = torch.randn(4, 6)
    assert float(estimate(model, x)) == pytest.approx(3.0 * len(x), rel=1e-4)


def test_a_linear_function_is_pulled_only_where_the_noisy_copy_has_a_gradient():
    torch.manual_seed(0)
    model = nn.Linear(6, 3, bias=False)
    x = torch.randn(8, 6)

    def along_the_weight(detach):
        model.zero_grad()
        estimate(model, x, copies=400, detach=detach).backward()
        return float((model.weight.grad * model.weight).sum())

    attached, detached = along_the_weight(False), along_the_weight(True)
    assert attached > 1
    assert abs(detached) < 0.1 * attached


def test_labels_do_not_matter(class_world):
    method = registry.get("jit")
    short = method.resolve({"perturbations": 2, "batch_size": 16})
    results = []
    for shift in (0, 3):
        context = class_world.context(method)
        context.forget.labels = (context.forget.labels + shift) % 10
        results.append(method.function(copy.deepcopy(class_world.original), context, **short))
    for one, other in zip(*(model.parameters() for model in results), strict=True):
        assert torch.equal(one, other)


def test_clamped_images_that_do_not_move_are_no_division_by_zero():
    loss = lipschitz(nn.Linear(6, 3), torch.zeros(2, 6), 0.5, 3, torch.Generator(), detach=True)
    assert torch.isfinite(loss)


@pytest.mark.parametrize("batch_norm", ["eval", "batch", "train"])
def test_dropout_is_off_by_default(class_world, batch_norm):
    """f(x) and f(x + e) would lose different units, which is no slope of f."""
    method = registry.get("jit")
    params = {"perturbations": 2, "batch_size": 64, "batch_norm": batch_norm, "sigma": 0.01}
    losses = []
    for extra in (nn.Dropout(0.5), nn.Identity()):
        context, model = class_world.context(method), copy.deepcopy(class_world.original)
        model.classifier = nn.Sequential(extra, model.classifier)
        method.function(model, context, **method.resolve(params))
        losses.append([float(entry["lipschitz"]) for entry in context.log_entries])
    assert losses[0] == losses[1] and losses[0][0] > 0


def test_the_loss_is_that_of_eval_mode(class_world):
    method = registry.get("jit")
    context, twin = class_world.context(method), class_world.context(method)
    model = copy.deepcopy(class_world.original)
    params = method.resolve({"perturbations": 2, "batch_size": 64})
    method.function(model, context, **params)
    x, _ = next(twin.forget.epochs(1, 64, augment=False))
    expected = lipschitz(class_world.original.eval(), x, 0.5, 2, twin.rng, detach=True) / len(x)
    assert context.log_entries[0]["lipschitz"] == expected


def test_accumulated_gradients_repeat_earlier_steps(class_world):
    params = {"perturbations": 2, "batch_size": 8, "lr": 1e-4}
    plain = class_world.unlearn("jit", **params)
    repeated = class_world.unlearn("jit", accumulate=True, **params)

    def moved(model):
        pairs = zip(model.parameters(), class_world.original.parameters(), strict=True)
        return sum(float((p - q).square().sum()) for p, q in pairs)

    assert moved(repeated) > 1.5 * moved(plain)


def test_dropout_can_be_at_work_as_in_the_official_code(class_world):
    method = registry.get("jit")
    losses = []
    for dropout in (False, True):
        context, model = class_world.context(method), copy.deepcopy(class_world.original)
        model.classifier = nn.Sequential(nn.Dropout(0.5), model.classifier)
        params = {"perturbations": 2, "batch_size": 64, "sigma": 0.01, "dropout": dropout}
        method.function(model, context, **method.resolve(params))
        losses.append(float(context.log_entries[0]["lipschitz"]))
    # Copies this near differ by little but the units dropped.
    assert losses[1] > 3 * losses[0] > 0


@pytest.mark.parametrize("with_batch_norm", [True, False])
def test_the_default_step_is_the_published_one_but_where_batch_norm_collapses(
    class_world, with_batch_norm
):
    method = registry.get("jit")
    original = class_world.original
    if not with_batch_norm:
        torch.manual_seed(0)
        original = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
    short = {"perturbations": 2, "batch_size": 64}
    states = []
    for lr in (None, jit.LR_WITH_BATCH_NORM if with_batch_norm else 3e-4):
        model = copy.deepcopy(original)
        params = method.resolve(short | {"lr": lr})
        method.function(model, class_world.context(method), **params)
        states.append(model.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert jit.LR_WITH_BATCH_NORM < jit.LR == 3e-4
