"""UAM: where the gradient is taken, that theta comes back, and what rho = 0 is."""

import copy

import pytest
import torch
from torch import nn
from unlearn_bench_methods import uam

from unlearn_bench.plugins import registry

from .conftest import accuracies

SHORT = {"epochs": 2, "batch_size": 64}


def test_without_a_radius_it_is_finetuning_to_the_bit(class_world):
    mine = class_world.unlearn("uam", rho=0, **SHORT).state_dict()
    theirs = class_world.unlearn("finetune", **SHORT).state_dict()
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_parameters_come_back_to_the_bit():
    parameters = [nn.Parameter(torch.randn(50)), nn.Parameter(torch.randn(3, 7))]
    start = [p.detach().clone() for p in parameters]
    uam.move(parameters, [torch.randn(50), torch.randn(3, 7)], 0.3)
    distance = sum(
        float((p - s).detach().square().sum()) for p, s in zip(parameters, start, strict=True)
    )
    assert abs(distance**0.5 - 0.3) < 1e-5
    uam.restore(parameters, start)
    assert all(torch.equal(p, s) for p, s in zip(parameters, start, strict=True))


def test_on_quadratic_losses_the_gradient_is_shifted_by_the_curvature():
    """For x^T H x / 2 it is, at theta + rho g / |g|, H theta + rho H g / |g|."""
    hessian = torch.tensor([[2.0, 0.5], [0.5, 1.0]])
    theta = nn.Parameter(torch.tensor([1.0, -1.0]))
    g = torch.tensor([3.0, 4.0])
    at_start = hessian @ theta.detach()
    uam.move([theta], [g], 0.1)
    loss = theta @ hessian @ theta / 2
    loss.backward()
    assert torch.allclose(theta.grad, at_start + 0.1 * hessian @ g / 5)


def test_a_forget_gradient_of_zero_moves_nothing():
    theta = nn.Parameter(torch.ones(3))
    uam.move([theta], [torch.zeros(3)], 0.5)
    assert torch.equal(theta.detach(), torch.ones(3))


def test_the_orthogonal_direction_leaves_the_retain_loss_alone():
    vector, direction = [torch.randn(20), torch.randn(5)], [torch.randn(20), torch.randn(5)]
    left = uam.without(vector, direction)
    product = sum(float((a * b).sum()) for a, b in zip(left, direction, strict=True))
    assert abs(product) < 1e-4
    # What was taken off lies along the direction.
    taken = torch.cat(vector) - torch.cat(left)
    cosine = taken @ torch.cat(direction) / (taken.norm() * torch.cat(direction).norm())
    assert abs(abs(float(cosine)) - 1) < 1e-5


def reestimated(world, model):
    """Return a copy whose running statistics were taken from R once more."""
    renewed = copy.deepcopy(model)
    for module in renewed.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
            module.train()
    with torch.no_grad():
        for x, _ in world.split("retain").batches(128):
            renewed(x)
    return renewed.eval()


def test_forgetting_survives_that_statistics_are_estimated_again(class_world):
    params = {"rho": 2, "lr": 0.1, "epochs": 7, "batch_size": 32}
    model = class_world.unlearn("uam", **params)
    for judged in (model, reestimated(class_world, model)):
        forget, retain = accuracies(class_world, judged)
        # Originals differ by processor, and what is left of the class with them.
        assert forget <= 0.2 and retain >= 0.9


def test_statistics_are_those_of_the_weights_that_stay_and_not_of_the_moved_ones(class_world):
    """With steps too small to matter they must come out as fine-tuning's, however far e is."""
    still = {"lr": 1e-12, "epochs": 1, "batch_size": 64}
    plain = class_world.unlearn("finetune", **still).state_dict()
    moved = class_world.unlearn("uam", rho=5.0, **still).state_dict()
    names = [name for name in plain if "running" in name or name.endswith("batches_tracked")]
    assert names and all(torch.allclose(plain[name], moved[name]) for name in names)
    both = class_world.unlearn("uam", rho=5.0, statistics="both", **still).state_dict()
    assert not all(torch.allclose(plain[name], both[name]) for name in names)


@pytest.mark.parametrize("orthogonal", [False, True])
def test_a_parameter_that_nothing_depends_on_stays(class_world, orthogonal):
    method = registry.get("uam")
    model = copy.deepcopy(class_world.original)
    model.spare = nn.Parameter(torch.ones(3))
    params = {"orthogonal": orthogonal, "epochs": 1, "batch_size": 64}
    method.function(model, class_world.context(method), **method.resolve(params))
    assert torch.equal(model.spare, torch.ones(3))
    assert not torch.equal(model.classifier.weight, class_world.original.classifier.weight)


def test_a_radius_raises_the_forget_loss(class_world):
    x, y = next(iter(class_world.split("forget").batches(1000)))

    def forget_loss(rho):
        model = class_world.unlearn("uam", rho=rho, lr=4e-2, schedule="constant", **SHORT)
        with torch.no_grad():
            return float(nn.functional.cross_entropy(model(x), y))

    assert forget_loss(5.0) > 2 * forget_loss(0.0)
