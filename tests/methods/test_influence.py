"""The influence step against dense linear algebra, and on a problem whose answer is known."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from unlearn_bench_methods import influence


class Examples:
    """Enough of a split: batches in stored order, and a length."""

    def __init__(self, x, y):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x)

    def batches(self, size):
        return zip(self.x.split(size), self.y.split(size), strict=True)


@pytest.fixture
def small():
    """A network of 51 parameters in float64, 20 examples to keep and 5 to forget."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    x = torch.randn(25, 4, generator=generator, dtype=torch.float64)
    y = torch.randint(3, (25,), generator=generator)
    return SimpleNamespace(
        net=net, retain=Examples(x[:20], y[:20]), forget=Examples(x[20:], y[20:])
    )


def gradients(net, examples):
    """One row per example, [N, P]."""
    rows = []
    for x, y in examples.batches(1):
        found = torch.autograd.grad(cross_entropy(net(x), y), [*net.parameters()])
        rows.append(torch.cat([g.flatten() for g in found]))
    return torch.stack(rows)


def flat(vector):
    return torch.cat([part.flatten() for part in vector])


def like(net, vector):
    parts = vector.split([p.numel() for p in net.parameters()])
    return [part.view_as(p) for part, p in zip(parts, net.parameters(), strict=True)]


def test_the_removal_gradient_is_the_published_combination(small):
    v = influence.removal_gradient(small.net, small.forget, small.retain, 7)
    g_f, g_r = gradients(small.net, small.forget), gradients(small.net, small.retain)
    assert torch.allclose(flat(v), g_f.sum(0) / 25 - 5 / (25 * 20) * g_r.sum(0), rtol=1e-10)


@pytest.mark.parametrize("damping", [1.0, 1e-2])
def test_conjugate_gradients_equal_the_dense_inverse(small, damping):
    g = gradients(small.net, small.retain)
    dense = damping * torch.eye(g.shape[1]).double() + g.T @ g / len(g)
    v = torch.randn(g.shape[1], generator=torch.Generator().manual_seed(1)).double()

    def product(u):
        fisher = influence.fisher_product(small.net, small.retain, u, 7)
        return [damping * a + b for a, b in zip(u, fisher, strict=True)]

    assert torch.allclose(flat(product(like(small.net, v))), dense @ v, rtol=1e-9, atol=1e-12)
    found, residual = influence.conjugate_gradients(product, like(small.net, v), 60, 1e-9)
    expected = torch.linalg.solve(dense, v)
    assert (flat(found) - expected).norm() < 1e-5 * expected.norm()
    assert residual < 1e-9


def test_a_parameter_that_the_loss_does_not_reach_counts_as_zero(small):
    u = [torch.ones_like(p) for p in small.net.parameters()]
    expected = flat(influence.fisher_product(small.net, small.retain, u, 7))
    small.net.register_parameter("idle", nn.Parameter(torch.ones(2).double()))
    u = [torch.ones_like(p) for p in small.net.parameters()]
    found = influence.fisher_product(small.net, small.retain, u, 7)
    assert not found[0].any() and torch.allclose(flat(found[1:]), expected)


def test_nothing_to_solve_gives_zero(small):
    zero = [torch.zeros_like(p) for p in small.net.parameters()]
    found, residual = influence.conjugate_gradients(lambda u: u, zero, 5, 1e-3)
    assert not flat(found).any() and residual == 0


def test_the_published_recurrence_moves_along_the_first_gradient_only(small):
    v = influence.removal_gradient(small.net, small.forget, small.retain, 7)
    moved = flat(influence.published_recurrence(small.net, small.retain, v)) - flat(v)
    first = gradients(small.net, small.retain)[0]
    cosine = moved @ first / (moved.norm() * first.norm())
    assert abs(abs(float(cosine)) - 1) < 1e-9


def test_one_newton_step_comes_nearer_to_retraining():
    """Logistic regression at its minimum over all data: the step makes up for most of the way."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 3, generator=generator, dtype=torch.float64)
    noise = torch.randn(200, generator=generator, dtype=torch.float64)
    y = (x @ torch.tensor([1.0, -0.5, 0.3]).double() + noise > 0).long()

    def fitted(examples):
        net = nn.Linear(3, 2, bias=False).double()
        optimizer = torch.optim.LBFGS(net.parameters(), max_iter=200, tolerance_grad=1e-12)

        def closure():
            optimizer.zero_grad()
            ridge = 1e-3 * net.weight.square().sum()
            loss = cross_entropy(net(examples.x), examples.y) + ridge
            loss.backward()
            return loss

        nn.init.zeros_(net.weight)
        optimizer.step(closure)
        return net

    forget, retain = Examples(x[:10], y[:10]), Examples(x[10:], y[10:])
    net = fitted(Examples(x, y))
    goal = fitted(retain).weight.detach()
    v = influence.removal_gradient(net, forget, retain, 50)
    step, _ = influence.conjugate_gradients(
        lambda u: [
            1e-3 * a + b
            for a, b in zip(u, influence.fisher_product(net, retain, u, 50), strict=True)
        ],
        v,
        20,
        1e-8,
    )
    before = (net.weight.detach() - goal).norm()
    after = (net.weight.detach() + step[0] - goal).norm()
    assert after < 0.5 * before


def test_no_step_changes_nothing(class_world):
    model = class_world.unlearn("influence", alpha=0, examples=20, iterations=2)
    for mine, theirs in zip(model.parameters(), class_world.original.parameters(), strict=True):
        assert torch.equal(mine, theirs)
