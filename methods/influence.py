"""Influence unlearning: one Newton step from the minimum on all data towards that on R alone.

    theta <- theta0 + alpha * H^-1 v,
    v = (1/N) sum_F grad CE - (n_F / (N n_R)) sum_R grad CE,
    H = damping * I + (1/m) sum_i g_i g_i^T

with g_i the gradient of one example's cross-entropy, for m examples of R: the empirical Fisher
information in place of the Hessian. At the minimum over all data the two sums cancel and v is
the negative gradient of the mean loss on R, so that alpha = 1 is the Newton step on R.

H^-1 v is found by conjugate gradients, which need only products of H with vectors: exact for all
m examples, and never more than a few copies of the weights in memory. The official code means to
apply the Sherman-Morrison formula (WoodFisher) but keeps a single vector for the whole inverse,
so that H^-1 v differs from v only along the first example's gradient: what is published as "IU"
is in essence one plain gradient step (``solver="published"``).

Source: Jia et al., NeurIPS 2023, arXiv:2304.04934; WoodFisher: Singh and Alistarh, NeurIPS 2020,
arXiv:2004.14340.
"""

from collections.abc import Callable
from typing import Annotated, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from unlearn_bench.api import (
    Access,
    Check,
    Context,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Split,
    Tunable,
    check_finite,
    method,
    summed_gradient,
    twice_differentiable,
)
from unlearn_bench.fisher import fisher_diagonal

Vector = list[Tensor]


@method(
    "influence",
    access=Access.BOTH,
    source="arXiv:2304.04934",
    family="editing",
    year=2023,
    check=Check(
        quick={"examples": 40, "iterations": 5},
        probes={"examples": 20, "iterations": 1, "tolerance": 0.9, "solver": "diagonal"},
        speed_only=("batch_size",),
    ),
)
def influence(
    model: nn.Module,
    ctx: Context,
    *,
    alpha: NonNegativeFloat = 0.2,
    damping: PositiveFloat = 1.0,
    solver: Literal["exact", "diagonal", "published"] = "exact",
    examples: PositiveInt = 1000,
    iterations: PositiveInt = 20,
    tolerance: Annotated[PositiveFloat, Tunable(tune=False)] = 1e-2,
    batch_size: PositiveInt = 64,
) -> nn.Module:
    """Take the step.

    Args:
        alpha: Length of the step; 1 is the Newton step on R. Official code: 0.2, and larger
            values are searched.
        damping: Added to the diagonal of H. Official code: 1, implicitly.
        solver: ``exact``: conjugate gradients on ``examples`` of R; ``diagonal``: with the
            diagonal of H alone, over all of R; ``published``: the official code's recurrence.
            Ours.
        examples: m, drawn from R; ``diagonal`` takes all. Official code: 1000.
        iterations: Of the conjugate gradients at most. Ours.
        tolerance: Relative residual at which they stop. Ours.
        batch_size: Examples per pass; only speed depends on it. Ours.
    """
    moving = [p for p in model.parameters() if p.requires_grad]
    with ctx.precompute():
        v = removal_gradient(model, ctx.forget, ctx.retain, batch_size)
        drawn = ctx.retain.subset(examples, ctx.rng)
        if solver == "diagonal":
            fisher = fisher_diagonal(model, ctx.retain.batches(batch_size), kind="empirical")
            named = [n for n, p in model.named_parameters() if p.requires_grad]
            step = [v_j / (fisher[n] + damping) for n, v_j in zip(named, v, strict=True)]
        elif solver == "published":
            step = published_recurrence(model, drawn, v)
        else:
            step, residual = conjugate_gradients(
                lambda u: _add(_times(damping, u), fisher_product(model, drawn, u, batch_size)),
                v,
                iterations,
                tolerance,
            )
            ctx.log(residual=residual)
    length = _dot(step, step).sqrt()
    check_finite(length, "raise influence.damping")
    ctx.log(step=alpha * length)
    with torch.no_grad():
        for parameter, change in zip(moving, step, strict=True):
            parameter.add_(alpha * change)
    return model


def removal_gradient(model: nn.Module, forget: Split, retain: Split, batch_size: int) -> Vector:
    """Return v, in the order of the model's parameters."""
    lost = summed_gradient(model, forget.batches(batch_size)).values()
    kept = summed_gradient(model, retain.batches(batch_size)).values()
    total = len(forget) + len(retain)
    share = len(forget) / (total * len(retain))
    return [f / total - share * r for f, r in zip(lost, kept, strict=True)]


def fisher_product(model: nn.Module, split: Split, u: Vector, batch_size: int) -> Vector:
    """Return (1/m) sum_i g_i (g_i . u) without forming any g_i.

    The sum of w_i g_i is linear in w; its derivative by w along u gives all g_i . u at once.
    """
    moving = [p for p in model.parameters() if p.requires_grad]
    total = [torch.zeros_like(p) for p in moving]
    for x, y in split.batches(batch_size):
        with torch.enable_grad(), twice_differentiable():
            losses = cross_entropy(model(x), y, reduction="none")
            w = torch.ones_like(losses, requires_grad=True)
            weighted = torch.autograd.grad(
                losses, moving, w, create_graph=True, materialize_grads=True
            )
            along = torch.autograd.grad(_dot(list(weighted), u), w, retain_graph=True)[0]
        # A parameter that the loss does not reach has a gradient of zero.
        found = torch.autograd.grad(losses, moving, along, materialize_grads=True)
        for sums, part in zip(total, found, strict=True):
            sums += part
    return _times(1 / len(split), total)


def conjugate_gradients(
    product: Callable[[Vector], Vector], v: Vector, iterations: int, tolerance: float
) -> tuple[Vector, float]:
    """Solve H x = v for a positive definite H given by its products.

    Returns:
        x and the relative residual.

    Source: Hestenes and Stiefel 1952.
    """
    x = [torch.zeros_like(part) for part in v]
    residual, direction = v, v
    start = square = _dot(v, v)
    for _ in range(iterations):
        if square <= tolerance**2 * start:
            break
        image = product(direction)
        length = square / _dot(direction, image)
        x = _add(x, _times(length, direction))
        residual = _add(residual, _times(-length, image))
        before, square = square, _dot(residual, residual)
        direction = _add(residual, _times(square / before, direction))
    return x, float((square / start).sqrt()) if start > 0 else 0.0


def published_recurrence(model: nn.Module, split: Split, v: Vector) -> Vector:
    """Return what the official code computes, one example after another.

    ``o`` should be H_i^-1 g_i, recomputed for each example i; it is set to the first gradient
    and only ever rescaled.
    """
    k, o = v, None
    count = len(split)
    for batch in split.batches(1):
        g = list(summed_gradient(model, [batch]).values())
        if o is None:
            o = g
            continue
        overlap = _dot(o, g)
        k = _add(k, _times(-_dot(k, g) / (count + overlap), o))
        o = _times(1 - overlap / (count + overlap), o)
    return k


def _dot(a: Vector, b: Vector) -> Tensor:
    return torch.stack([(x * y).sum() for x, y in zip(a, b, strict=True)]).sum()


def _add(a: Vector, b: Vector) -> Vector:
    return [x + y for x, y in zip(a, b, strict=True)]


def _times(factor: Tensor | float, a: Vector) -> Vector:
    return [factor * x for x in a]
