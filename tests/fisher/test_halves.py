"""Models in half precision: their diagonals lose what the gradients lose, and no more."""

import pytest
import torch
from torch import Tensor, nn

from unlearn_bench.fisher import fisher_diagonal
from unlearn_bench.fisher.reference import disagreement
from unlearn_bench.fisher.timing import randomised


class Net(nn.Module):
    """A rule of every sort: convolutions, norms, a token, attention, a table, a sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1),
            nn.BatchNorm2d(8),
            nn.Tanh(),
            nn.Conv2d(8, 8, 3, 1, 1, groups=8),
            nn.GroupNorm(2, 8),
            nn.PReLU(8),
            nn.Conv2d(8, 16, 1),
            nn.Flatten(2),
        )
        self.token = nn.Parameter(torch.zeros(1, 1, 16))
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.norm = nn.LayerNorm(16)
        self.twice = nn.Linear(16, 16)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1)
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return self.head(self.twice(self.twice(self.norm(x)).tanh())[:, 0])


def build(examples: int = 48) -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    model = randomised(Net())
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(examples, 3, 8, 8, generator=generator)
    return model, x, torch.arange(examples) % 5


# Three times what was measured. One rounding is 0.2 % in bfloat16, 0.02 % in float16.
BOUNDS = {torch.bfloat16: 0.06, torch.float16: 0.002}


@pytest.mark.parametrize("kind", ["true", "empirical"])
@pytest.mark.parametrize("dtype", BOUNDS)
def test_a_half_model_is_near_the_exact_diagonal(dtype: torch.dtype, kind: str) -> None:
    model, x, y = build()
    half = model.to(dtype)
    got = fisher_diagonal(half, [(x.to(dtype), y)], kind)  # type: ignore[arg-type]
    # Against the model that was rounded: its parameters are what it is.
    batch = x.to(dtype).double(), y
    exact = fisher_diagonal(half.double(), [batch], kind)  # type: ignore[arg-type]
    assert {t.dtype for t in got.values()} == {torch.float32}
    assert disagreement(got, exact) < BOUNDS[dtype]


def test_sums_over_many_examples_do_not_stand_still() -> None:
    # Each of 2000 equal examples adds 1/2000 of the sum; bfloat16 would stop near the 256th.
    model, x, y = build(1)
    model, x, y = model.bfloat16(), x.bfloat16(), y
    one = fisher_diagonal(model, [(x, y)], "empirical")
    many = fisher_diagonal(model, [(x.repeat(2000, 1, 1, 1), y.repeat(2000))], "empirical")
    assert disagreement(many, one) < 0.01


def test_small_gradients_do_not_vanish_in_float16() -> None:
    # Gradients near 1e-5: their squares are far below float16's smallest number, 6e-8.
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).half()
    x, y = 1e-4 * torch.randn(4, 6), torch.arange(4) % 3
    got = fisher_diagonal(model, [(x.half(), y)])
    exact = fisher_diagonal(model.double(), [(x.half().double(), y)])
    assert float(exact["0.weight"].max()) < 1e-8
    assert disagreement(got, exact) < 0.01


def test_autocast_is_followed_and_leaves_no_trace() -> None:
    model, x, y = build()
    exact = fisher_diagonal(model, [(x, y)])
    with torch.autocast("cpu", torch.bfloat16):
        with torch.no_grad():
            # Autocast keeps casts of the parameters that no gradient passes.
            before = model(x)
        got = fisher_diagonal(model, [(x, y)])
        with torch.no_grad():
            after = model(x)
    assert {t.dtype for t in got.values()} == {torch.float32}
    assert set(got.routes.values()).isdisjoint({"unused", "zero gradient"})
    assert 1e-4 < disagreement(got, exact) < 0.1
    assert torch.equal(before, after)
