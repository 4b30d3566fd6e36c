"""Random small nets: every shape of layer agrees with the reference, in every kind."""

import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from unlearn_bench.fisher import fisher_diagonal, reference_diagonal
from unlearn_bench.fisher.reference import disagreement
from unlearn_bench.fisher.timing import randomised

KINDS = st.sampled_from(["true", "empirical", "monte_carlo"])
PAIRS = st.tuples(st.integers(1, 3), st.integers(1, 3))


def check(model: nn.Module, x: Tensor, kind: str) -> None:
    y = torch.arange(len(x)) % 3
    got = fisher_diagonal(model, [(x, y)], kind)  # type: ignore[arg-type]
    assert disagreement(got, reference_diagonal(model, [(x, y)], kind)) < 1e-10
    assert not any("fallback" in route for route in got.routes.values())


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    kind=KINDS,
    n=st.integers(1, 4),
    groups=st.integers(1, 3),
    channels=PAIRS,
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 5)),
    stride=PAIRS,
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    dilation=PAIRS,
    size=st.tuples(st.integers(3, 9), st.integers(3, 9)),
    bias=st.booleans(),
    transposed=st.booleans(),
    norm=st.booleans(),
)
def test_convolutions(
    kind, n, groups, channels, kernel, stride, padding, dilation, size, bias, transposed, norm
) -> None:
    sides = zip(size, padding, dilation, kernel, strict=True)
    assume(all(s + 2 * p > d * (k - 1) for s, p, d, k in sides))
    torch.manual_seed(0)
    ci, co = groups * channels[0], groups * channels[1]
    layer = nn.ConvTranspose2d if transposed else nn.Conv2d
    options = {"groups": groups, "dilation": dilation, "bias": bias}
    conv = layer(ci, co, kernel, stride, padding, **options).double()
    x = torch.randn(n, ci, *size, dtype=torch.float64)
    try:
        shape = conv(x).shape
    except RuntimeError:
        assume(False)
    middle = [nn.BatchNorm2d(co)] if norm else []
    head = nn.Linear(shape[1:].numel(), 3)
    model = nn.Sequential(conv, *middle, nn.Tanh(), nn.Flatten(), head).double()
    check(randomised(model), x, kind)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    kind=KINDS,
    n=st.integers(1, 4),
    tokens=st.integers(1, 12),
    width=st.integers(1, 6),
    out=st.integers(1, 6),
    bias=st.booleans(),
    norm=st.sampled_from(["layer", "group", "none"]),
    tokens_first=st.booleans(),
)
def test_sequences(kind, n, tokens, width, out, bias, norm, tokens_first) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(width, out, bias=bias)
            self.norm = nn.LayerNorm(out) if norm == "layer" else nn.Identity()
            self.group = nn.GroupNorm(1, out) if norm == "group" else nn.Identity()
            self.head = nn.Linear(out * tokens, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.norm(self.inner(x.transpose(0, 1) if tokens_first else x)).tanh()
            x = x.transpose(0, 1) if tokens_first else x
            return self.head(self.group(x.transpose(1, 2)).flatten(1))

    # A norm over one number is constant: no gradient passes through it.
    assume(norm == "none" or (out > 1 if norm == "layer" else out * tokens > 1))
    torch.manual_seed(0)
    model = randomised(Net().double())
    check(model, torch.randn(n, tokens, width, dtype=torch.float64), kind)
