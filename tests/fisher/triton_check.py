"""Compare the Triton kernel with a plain product; run with TRITON_INTERPRET=1 on a CPU."""

import copy
import json
import sys

import torch
from torch import nn
from torch.nn import functional as F

from unlearn_bench.fisher import fisher_diagonal, outer, reference_diagonal
from unlearn_bench.fisher.reference import disagreement
from unlearn_bench.fisher.triton_kernels import fused_squares, tf32_allowed, usable

# N, Ci, (H, W), Co, (kh, kw), stride, padding, dilation
CASES = [
    (3, 2, (6, 5), 4, (3, 3), (1, 1), (1, 1), (1, 1)),
    (2, 3, (9, 8), 5, (3, 2), (2, 1), (1, 0), (1, 2)),
    (2, 70, (3, 3), 66, (1, 1), (1, 1), (0, 0), (1, 1)),
    (5, 9, (7, 7), 3, (5, 5), (2, 2), (2, 2), (1, 1)),
    # One number everywhere; a kernel as large as the image; more padding than image; several
    # blocks of positions; tiles over both sides; kernel positions that read padding alone.
    (1, 1, (1, 1), 1, (1, 1), (1, 1), (0, 0), (1, 1)),
    (2, 3, (5, 4), 2, (5, 4), (1, 1), (0, 0), (1, 1)),
    (2, 2, (2, 1), 3, (3, 3), (1, 1), (3, 2), (1, 1)),
    (2, 8, (11, 13), 65, (3, 3), (1, 1), (1, 1), (1, 1)),
    (3, 2, (6, 6), 4, (3, 3), (3, 2), (4, 4), (4, 3)),
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


def strided_error(dtype: torch.dtype, device: str) -> float:
    """Channels-last images, whose numbers lie otherwise in memory."""
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(3, 5, 6, 7, generator=generator).to(device, dtype)
    g = torch.randn(3, 4, 4, 5, generator=generator).to(device, dtype)
    plain, strided = (torch.zeros(4, 5, 3, 3, device=device) for _ in range(2))
    fused_squares(plain, g, a)
    last = torch.channels_last
    fused_squares(strided, g.contiguous(memory_format=last), a.contiguous(memory_format=last))
    return float((plain - strided).norm() / plain.norm())


def routed_error(device: str, dtype: torch.dtype) -> float:
    """Error of a small net whose convolution and linear layer take the fused way."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2),
        nn.Flatten(2),
        nn.Tanh(),
        nn.Linear(64, 5),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(20, 3),
    ).to(device)
    batch = torch.randn(4, 2, 17, 17, device=device), torch.arange(4, device=device) % 3
    # Both have few positions here, where pairs would win; and the interpreter has no GPU.
    outer.fused = lambda a: True
    outer.pairs_win = lambda *sizes, **more: False
    half = copy.deepcopy(model).to(dtype)
    got = fisher_diagonal(half, [(batch[0].to(dtype), batch[1])], "empirical")
    assert got.routes["0.weight"] == "conv, fused", got.routes
    assert got.routes["3.weight"] == "linear, fused", got.routes
    return disagreement(got, reference_diagonal(model, [batch], "empirical"))


def tf32_follows_torch() -> list[bool]:
    """Switch TF32 on and off in every way that torch has; return whether the kernel may use it."""
    found = [tf32_allowed()]
    for precision in ("high", "highest"):
        torch.set_float32_matmul_precision(precision)
        found.append(tf32_allowed())
    matmul = torch.backends.cuda.matmul
    for allowed in (True, False):
        matmul.allow_tf32 = allowed
        found.append(tf32_allowed())
    if hasattr(matmul, "fp32_precision"):
        for precision in ("tf32", "ieee"):
            matmul.fp32_precision = precision
            found.append(tf32_allowed())
    return found


def main(device: str) -> None:
    errors = {}
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        found = [conv_error(case, dtype, device) for case in CASES]
        errors[name] = max(*found, sequence_error(dtype, device), strided_error(dtype, device))
        errors[f"{name} usable"] = usable(torch.device(device), dtype)
        errors[f"{name} routed"] = routed_error(device, dtype)
    errors["tf32"] = tf32_follows_torch()  # last: not all of these settings can be taken back
    sys.stdout.write(json.dumps(errors))


if __name__ == "__main__":
    main(sys.argv[1])
