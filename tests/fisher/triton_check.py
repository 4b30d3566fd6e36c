"""Compare the Triton kernel with a plain product; run with TRITON_INTERPRET=1 on a CPU."""

import json
import sys

import torch
from torch import nn
from torch.nn import functional as F

from unlearn_bench.fisher import convolution, fisher_diagonal, linear, outer, reference_diagonal
from unlearn_bench.fisher.reference import disagreement
from unlearn_bench.fisher.triton_kernels import fused_squares, usable

# N, Ci, (H, W), Co, (kh, kw), stride, padding, dilation
CASES = [
    (3, 2, (6, 5), 4, (3, 3), (1, 1), (1, 1), (1, 1)),
    (2, 3, (9, 8), 5, (3, 2), (2, 1), (1, 0), (1, 2)),
    (2, 70, (3, 3), 66, (1, 1), (1, 1), (0, 0), (1, 1)),
    (5, 9, (7, 7), 3, (5, 5), (2, 2), (2, 2), (1, 1)),
]


def conv_error(case: tuple, dtype: torch.dtype, device: str) -> float:
    n, ci, size, co, kernel, stride, padding, dilation = case
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(n, ci, *size, generator=generator).to(device, dtype)
    columns = F.unfold(a.double(), kernel, dilation, padding, stride)
    ho = (size[0] + 2 * padding[0] - dilation[0] * (kernel[0] - 1) - 1) // stride[0] + 1
    wo = columns.shape[2] // ho
    g = torch.randn(n, co, ho, wo, generator=generator).to(device, dtype)
    expected = (g.double().flatten(2) @ columns.transpose(1, 2)).square().sum(0)
    total = torch.zeros(co, ci, *kernel, device=device)
    fused_squares(total, g, a, stride=stride, padding=padding, dilation=dilation)
    return float((total.flatten(1) - expected).norm() / expected.norm())


def sequence_error(dtype: torch.dtype, device: str) -> float:
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(3, 37, 20, generator=generator).to(device, dtype)
    g = torch.randn(3, 37, 18, generator=generator).to(device, dtype)
    expected = (g.double().transpose(1, 2) @ a.double()).square().sum(0)
    total = torch.zeros(18, 20, 1, 1, device=device)
    fused_squares(total, g.transpose(1, 2)[..., None], a.transpose(1, 2)[..., None])
    return float((total[..., 0, 0] - expected).norm() / expected.norm())


def routed_error(device: str) -> float:
    """Error of a small net whose convolution and linear layer take the fused way."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2), nn.Flatten(2), nn.Tanh(), nn.Linear(64, 5), nn.Tanh(),
        nn.Flatten(), nn.Linear(20, 3),
    ).to(device)  # fmt: skip
    batch = torch.randn(4, 2, 17, 17, device=device), torch.arange(4, device=device) % 3
    # Both have few positions here, where pairs would win; and the interpreter has no GPU.
    outer.fused = lambda a: True
    linear.SQUARE_COST = convolution.SQUARE_COST = -4
    got = fisher_diagonal(model, [batch], "empirical")
    assert got.routes["0.weight"] == "conv, fused", got.routes
    assert got.routes["3.weight"] == "linear, fused", got.routes
    return disagreement(got, reference_diagonal(model, [batch], "empirical"))


def main(device: str) -> None:
    errors = {
        str(dtype): max(
            [conv_error(case, dtype, device) for case in CASES] + [sequence_error(dtype, device)]
        )
        for dtype in (torch.float32, torch.float16)
    }
    errors["routed"] = routed_error(device)
    errors["usable"] = usable(torch.device(device), torch.float32)
    sys.stdout.write(json.dumps(errors))


if __name__ == "__main__":
    main(sys.argv[1])
