"""The fast diagonal equals the reference on every rule, and takes the route it should."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlearn_bench.fisher import fisher_diagonal, reference_diagonal
from unlearn_bench.fisher.reference import disagreement
from unlearn_bench.fisher.timing import randomised

Case = tuple[Callable[[], nn.Module], tuple[int, ...], str]


class Tokens(nn.Module):
    """A class token, positions, a scale, and an attention with a fused functional weight."""

    def __init__(self, batch_first: bool = True) -> None:
        super().__init__()
        self.batch_first = batch_first
        self.token = nn.Parameter(torch.zeros(1, 1, 8))
        self.positions = nn.Parameter(torch.zeros(1, 6, 8))
        self.scale = nn.Parameter(torch.ones(8))
        self.attention = nn.MultiheadAttention(8, 2, batch_first=batch_first)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        token = self.token.expand(len(x), -1, -1)
        # Read twice, as class attention does.
        x = torch.cat([token, x + token], 1) + self.positions
        if not self.batch_first:
            x = x.transpose(0, 1)
        x = x + self.scale * self.attention(x, x, x)[0]
        x = self.norm(x)
        return self.head(x[:, 0] if self.batch_first else x[0])


class PositionBias(nn.Module):
    """Attention logits with a bias gathered from a table: a computation before the data."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(9, 2))
        self.qk = nn.Linear(8, 16)
        self.head = nn.Linear(8, 3)
        at = torch.arange(5)
        self.register_buffer("index", at[:, None] - at[None] + 4)

    def forward(self, x: Tensor) -> Tensor:
        q, k = self.qk(x).unflatten(2, (2, 2, 4)).permute(2, 0, 3, 1, 4)
        bias = self.table[self.index].permute(2, 0, 1)
        weights = (q @ k.transpose(-2, -1) + bias).softmax(-1)
        return self.head((weights.mean(1) @ x).mean(1))


class StandardisedConv(nn.Conv2d):
    """Weights standardised, and given a gain, before they are used."""

    def __init__(self, *args: int) -> None:
        super().__init__(*args)
        self.gain = nn.Parameter(torch.ones(self.weight.shape[0], 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        w = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        w = self.gain * w / w.std((1, 2, 3), keepdim=True)
        return F.conv2d(x, w, self.bias)


class Twice(nn.Module):
    """One module called twice, and a weight tied to another."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 6)
        self.tied = nn.Linear(6, 6)
        self.tied.weight = self.inner.weight
        self.head = nn.Linear(6, 3)
        self.never = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.tied(self.inner(self.inner(x).tanh()).tanh()).tanh())


class Windows(nn.Module):
    """Images folded into the batch, examples slowest or, as crops are, fastest."""

    def __init__(self, crops_first: bool) -> None:
        super().__init__()
        self.crops_first = crops_first
        self.conv = nn.Conv2d(2, 3, 3)
        self.norm = nn.BatchNorm2d(3)
        self.mix = nn.Linear(12, 5)
        self.head = nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        crops = [x[..., :4], x[..., 2:]]
        x = torch.cat(crops) if self.crops_first else torch.stack(crops, 1).flatten(0, 1)
        x = self.mix(self.norm(self.conv(x)).tanh().flatten(1))
        x = x.unflatten(0, (2, -1)).transpose(0, 1) if self.crops_first else x.unflatten(0, (-1, 2))
        return self.head(x.flatten(1))


class Powers(nn.Module):
    """An operation that no rule knows: a learnt exponent."""

    def __init__(self) -> None:
        super().__init__()
        self.exponent = nn.Parameter(torch.full((6,), 1.5))
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.abs() ** self.exponent)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 5, batch_first=True)
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0].mean(1))


class Thresholds(nn.Module):
    """Data that comes in through comparisons, in the first layer and beside it."""

    def __init__(self, alone: bool) -> None:
        super().__init__()
        self.alone = alone
        self.signs = nn.Linear(6, 5)
        self.values = nn.Linear(6, 5)
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        signs = self.signs((x > 0).to(x.dtype))
        return self.head((signs if self.alone else signs * self.values(x)).tanh())


class Bag(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 4, padding_idx=0)
        self.head = nn.Linear(4, 3)

    def forward(self, words: Tensor) -> Tensor:
        return self.head(self.table(words).tanh().mean(1))


class Checks(nn.Module):
    """Subtraction, a scaled sum, a scalar, and a batch of matrix products with a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(6))
        self.shift = nn.Parameter(torch.zeros(5, 1))
        self.scalar = nn.Parameter(torch.ones(()))
        self.matrix = nn.Parameter(torch.randn(6, 3))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.add(x - self.mean, self.shift, alpha=0.5) * self.scalar
        return torch.einsum("ntd,dc->nc", x.tanh(), self.matrix)


def conv_net(*layers: nn.Module) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(*layers, nn.Tanh(), nn.Flatten(), nn.LazyLinear(3))


CASES: dict[str, Case] = {
    "linear": (lambda: nn.Linear(6, 3), (6,), "linear"),
    "sequence": (
        lambda: nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Flatten(), nn.Linear(150, 3)),
        (30, 6),
        "linear, sequence",
    ),
    "short sequence": (
        lambda: nn.Sequential(nn.Linear(6, 5), nn.Flatten(), nn.Linear(10, 3)),
        (2, 6),
        "linear, pairs of positions",
    ),
    "no bias": (
        lambda: nn.Sequential(nn.Linear(6, 5, bias=False), nn.Flatten(), nn.Linear(150, 3)),
        (30, 6),
        "linear, sequence",
    ),
    "conv, few positions": (conv_net(nn.Conv2d(2, 4, 3, 2, 1)), (2, 4, 4), "conv, pairs"),
    "conv": (conv_net(nn.Conv2d(2, 4, 3, 2, 1, 1)), (2, 20, 18), "conv, windows"),
    "conv, large": (conv_net(nn.Conv2d(2, 4, (3, 2), 1, 1)), (2, 32, 33), "conv, images"),
    "dilated": (conv_net(nn.Conv2d(2, 4, 3, (1, 2), (1, 0), 2)), (2, 20, 20), "conv, windows"),
    "1x1": (conv_net(nn.Conv2d(2, 4, 1)), (2, 12, 12), "conv, windows"),
    "depthwise": (conv_net(nn.Conv2d(4, 4, 3, padding=1, groups=4)), (4, 9, 9), "conv, groups"),
    "depthwise, large kernel": (
        conv_net(nn.Conv2d(4, 4, 5, 2, 2, groups=4)),
        (4, 9, 8),
        "conv, groups",
    ),
    "depthwise, dilated, tiny": (
        conv_net(nn.Conv2d(4, 4, (5, 4), 1, 4, 2, groups=4)),
        (4, 2, 1),
        "conv, groups",
    ),
    "grouped": (conv_net(nn.Conv2d(4, 6, 5, 2, 2, groups=2)), (4, 9, 9), "conv, groups"),
    "transposed": (
        conv_net(nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, groups=2)),
        (4, 5, 5),
        "conv, groups",
    ),
    "conv 1d": (conv_net(nn.Conv1d(4, 6, 3)), (4, 9), "conv, groups"),
    "conv 3d": (conv_net(nn.Conv3d(1, 2, 2)), (1, 3, 4, 5), "conv, groups"),
    "circular padding": (
        conv_net(nn.Conv2d(2, 4, 3, padding=1, padding_mode="circular")),
        (2, 12, 11),
        "conv, windows",
    ),
    "batch norm": (conv_net(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4)), (2, 8, 8), "batch norm"),
    "batch norm, few positions": (
        conv_net(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4)),
        (2, 4, 4),
        "batch norm",
    ),
    "batch norm of vectors": (
        lambda: nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 3)),
        (6,),
        "batch norm",
    ),
    "layer norm": (
        lambda: nn.Sequential(nn.LayerNorm((4, 6)), nn.Flatten(), nn.Linear(24, 3)),
        (4, 6),
        "layer norm",
    ),
    "group norm": (conv_net(nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4)), (2, 6, 6), "group norm"),
    "rms norm": (lambda: nn.Sequential(nn.RMSNorm(6), nn.Linear(6, 3)), (6,), "scale"),
    "prelu": (conv_net(nn.Conv2d(2, 4, 3), nn.PReLU(4)), (2, 6, 6), "prelu"),
    "tokens": (Tokens, (5, 8), "token"),
    "tokens before examples": (lambda: Tokens(batch_first=False), (5, 8), "shift"),
    "position bias": (PositionBias, (5, 8), "per-example gradients, summed over uses"),
    "standardised weights": (
        conv_net(StandardisedConv(2, 4, 3)),
        (2, 6, 6),
        "per-example gradients, summed over uses",
    ),
    "used twice, tied, unused": (Twice, (6,), "per-example gradients, summed over uses"),
    "windows": (lambda: Windows(False), (2, 4, 6), "batch norm"),
    "crops before examples": (lambda: Windows(True), (2, 4, 6), "fallback, by example"),
    "unknown operation": (Powers, (6,), "fallback, by example"),
    "thresholds": (lambda: Thresholds(True), (6,), "fallback, by example"),
    "thresholds beside": (lambda: Thresholds(False), (6,), "linear"),
    "recurrent": (Recurrent, (7, 4), "fallback, by example"),
    "elementwise and einsum": (Checks, (5, 6), "scale"),
    "embedding": (Bag, (), "embedding"),
}


def build(name: str, n: int = 5) -> tuple[nn.Module, Tensor, Tensor, str]:
    make, shape, route = CASES[name]
    torch.manual_seed(0)
    model = make().double().eval()
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n, *shape, dtype=torch.float64, generator=generator)
    if name == "embedding":
        x = torch.randint(0, 7, (n, 6), generator=generator)
    model(x)  # Lazy layers take their size.
    return randomised(model), x, torch.arange(n) % 3, route


def test_a_thousand_classes_equal_the_reference() -> None:
    torch.manual_seed(0)
    layers = nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Tanh(), nn.Flatten(), nn.Linear(12, 1000)
    model = randomised(nn.Sequential(*layers).double())
    x = torch.randn(2, 2, 4, 4, dtype=torch.float64)
    # Far from uniform, as trained models are: most classes lie in a tiny tail.
    with torch.no_grad():
        model[4].weight.mul_(10)
    batch = x, torch.tensor([0, 999])
    got = fisher_diagonal(model, [batch], "true")
    assert disagreement(got, reference_diagonal(model, [batch], "true")) < 1e-10


@pytest.mark.parametrize("kind", ["true", "empirical", "monte_carlo", "batch"])
@pytest.mark.parametrize("name", CASES)
def test_equals_the_reference(name: str, kind: str) -> None:
    model, x, y, route = build(name)
    got = fisher_diagonal(model, [(x, y)], kind, samples=2)  # type: ignore[arg-type]
    expected = reference_diagonal(model, [(x, y)], kind, samples=2)
    assert disagreement(got, expected) < 1e-10
    assert list(got) == list(got.routes) == [n for n, _ in model.named_parameters()]
    if kind != "batch":
        assert route in got.routes.values()
