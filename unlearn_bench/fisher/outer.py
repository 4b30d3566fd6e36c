"""Sums over examples of squared matrix products, without ever holding all of them.

The gradient of a linear map at one example is G = g a, a product over its P positions. Two
ways to sum G * G over examples: form a few G at a time in a buffer that stays in cache, or
expand the square over pairs of positions,

    sum_i (sum_p g_ip a_ip)^2 = sum_{p <= q} m_pq sum_i (g_ip g_iq) (a_ip a_iq),

with m = 1 for p = q and 2 otherwise: one matrix product of inner size pairs * N, no G at all,
and the g-part may be summed over many backward passes first.
"""

import functools

import torch
from torch import Tensor

# Bytes of per-example gradients formed at once: small enough to stay in a core's cache.
BLOCK = 512 * 1024
# Costs in multiply-adds of a product (measured on CPU): of forming and squaring one number of a
# gradient, of taking up one example, and of one number of the sums over pairs in one pass.
SQUARE_COST = 15
EXAMPLE_COST = 100_000
PAIR_COST = 80
# Numbers that the sums over pairs of one layer may hold.
PAIR_LIMIT = 2**22


def pairs_win(
    outputs: int,
    inputs: int,
    positions: int,
    passes: int,
    examples: int,
    *,
    taps: int = 1,
    met: int | None = None,
) -> bool:
    """Whether expanding the square over pairs is cheaper than forming G, in bounded memory.

    The matrix product is done once, but every pass adds to its g-part: many passes favour pairs
    only as far as that is cheaper than a G each.

    Args:
        outputs: Rows of G.
        inputs: Columns of G at one kernel position.
        positions: P.
        passes: Backward passes.
        examples: N.
        taps: Kernel positions.
        met: Pairs of outputs that kernel positions serve, over all of them; None for all pairs.
    """
    pairs = positions * (positions + 1) // 2
    if pairs * examples * outputs > PAIR_LIMIT:
        return False
    once = outputs * inputs * (pairs if met is None else met)
    each = outputs * pairs * PAIR_COST
    formed = outputs * inputs * taps * (positions + SQUARE_COST) + EXAMPLE_COST
    return once + passes * each <= passes * formed


def add_squares(total: Tensor, g: Tensor, a: Tensor) -> None:
    """Add sum_i (g_i a_i)^2 to ``total``.

    Args:
        total: [M, K], or [G * M, K] when G groups are stacked example by example.
        g: [N * G, M, P].
        a: [N * G, P, K].
    """
    m, k = g.shape[1], a.shape[2]
    groups = total.shape[0] // m
    step = groups * max(1, BLOCK // (total.numel() * total.element_size()))
    buffer = total.new_empty(min(step, len(g)), m, k)
    flat = total.view(-1)
    for start in range(0, len(g), step):
        some = g[start : start + step]
        block = torch.bmm(some, a[start : start + step], out=buffer[: len(some)])
        for gradient in block.view(-1, flat.numel()):
            flat.addcmul_(gradient, gradient)


@functools.lru_cache(maxsize=64)
def pair_indices(positions: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Indices (p, q) of all pairs p <= q, each [P (P + 1) / 2]."""
    p, q = torch.triu_indices(positions, positions, device=device)
    return p, q


def pair_products(g: Tensor) -> Tensor:
    """m_pq g_p g_q for all pairs in the order of :func:`pair_indices`, [pairs, N, M].

    Args:
        g: [P, N, M].
    """
    if len(g) == 1:
        return g.square()
    p, q = pair_indices(len(g), g.device)
    return g[p].mul_(g[q]).mul_((2 - (p == q).to(g.dtype))[:, None, None])


def fused(a: Tensor) -> bool:
    """Whether the GPU kernel of ``triton_kernels.py`` serves tensors like ``a``."""
    halves = (torch.float16, torch.bfloat16)
    # The kernel counts in 32 bits.
    if not a.is_cuda or a.dtype not in (torch.float32, *halves) or a.numel() >= 2**31:
        return False
    try:
        from unlearn_bench.fisher.triton_kernels import usable
    except ImportError:  # No Triton for this platform.
        return False
    return usable(a.device, a.dtype)
