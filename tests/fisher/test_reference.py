"""The reference is right: finite differences, a case worked by hand, and its definitions."""

import math

import pytest
import torch
from torch import nn

from unlearn_bench.core.errors import ParameterError
from unlearn_bench.fisher import fisher_diagonal, reference_diagonal


def small_net() -> nn.Module:
    torch.manual_seed(0)
    # Tanh: no kinks, so finite differences converge.
    net = nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1, stride=2),
        nn.BatchNorm2d(3),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(12, 4),
    ).double()
    net[1].running_mean.normal_()
    net[1].running_var.uniform_(0.5, 2)
    return net


def data(n: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n, 2, 4, 4, dtype=torch.float64, generator=generator)
    return x, torch.arange(n) % 4


def difference_gradients(model: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Central differences of log p(c|x_i), [N, C, *parameter.shape] for each parameter."""
    found, h = {}, 1e-5
    with torch.no_grad():
        for name, p in model.named_parameters():
            columns = []
            for k in range(p.numel()):
                flat, kept = p.view(-1), p.view(-1)[k].item()
                flat[k] = kept + h
                up = model(x).log_softmax(1)
                flat[k] = kept - h
                down = model(x).log_softmax(1)
                flat[k] = kept
                columns.append((up - down) / (2 * h))
            found[name] = torch.stack(columns, -1).view(len(x), -1, *p.shape)
    return found


@pytest.mark.parametrize("kind", ["true", "empirical", "batch"])
def test_agrees_with_finite_differences(kind: str) -> None:
    model, (x, y) = small_net().eval(), data()
    p = model(x).softmax(1).detach()
    for name, got in reference_diagonal(model, [(x, y)], kind).items():
        d = difference_gradients(model, x)[name]
        picked = d[torch.arange(len(x)), y]
        if kind == "true":
            expected = torch.einsum("nc,nc...->...", p, d**2) / len(x)
        else:
            expected = (picked**2).mean(0) if kind == "empirical" else picked.mean(0) ** 2
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-9)


def test_a_case_worked_by_hand() -> None:
    # Logits (w x, 0) with w = 0 and x = 2: p = 1/2 each, d log p(0)/dw = x/2 = 1,
    # d log p(1)/dw = -1, so every Fisher of w is 1; for the bias, 1/4.
    class TwoClasses(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.zeros(1))
            self.b = nn.Parameter(torch.zeros(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            z = self.w * x + self.b
            return torch.cat([z, torch.zeros_like(z)], 1)

    x, y = torch.full((1, 1), 2.0), torch.tensor([1])
    for kind in ("true", "empirical", "monte_carlo", "batch"):
        got = fisher_diagonal(TwoClasses(), [(x, y)], kind)
        assert got["w"].item() == pytest.approx(1.0)
        assert got["b"].item() == pytest.approx(0.25)
    # Two opposite labels: gradients 1 and -1. Their squares average to 1, their mean is 0.
    both = [(torch.full((2, 1), 2.0), torch.tensor([0, 1]))]
    assert fisher_diagonal(TwoClasses(), both, "empirical")["w"].item() == pytest.approx(1.0)
    assert fisher_diagonal(TwoClasses(), both, "batch")["w"].item() == pytest.approx(0.0)


def test_monte_carlo_approaches_the_true_fisher() -> None:
    model, batch = small_net(), data(1)
    true = reference_diagonal(model, [batch], "true")["4.bias"]
    drawn = reference_diagonal(model, [batch], "monte_carlo", samples=2000)["4.bias"]
    assert (drawn - true).norm() / true.norm() < 4 / math.sqrt(2000)
    assert not torch.equal(drawn, true)


def test_wrong_arguments_are_refused_in_one_line() -> None:
    model, batch = small_net(), data()
    with pytest.raises(ParameterError, match="did you mean 'empirical'"):
        fisher_diagonal(model, [batch], "empiric")  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="did you mean '4.weight'"):
        fisher_diagonal(model, [batch], params=["4.weigth"])
    with pytest.raises(ParameterError, match="samples is 0"):
        fisher_diagonal(model, [batch], "monte_carlo", samples=0)
    with pytest.raises(ParameterError, match="batches is empty"):
        fisher_diagonal(model, [])
