"""UAM, unlearning-aware minimization: learn R from where the model has just unlearned F.

For each batch, g_F is the gradient of the cross-entropy on F at theta and

    g = grad CE(retain) at theta + rho * g_F / ||g_F||

the SGD step with g is taken at theta itself: a min-max problem solved as SAM (sharpness-aware
minimization) solves its own, but for the direction, which is F's. A solution has a low retain
loss although the forget loss is high.

g_F is taken on one batch of F and R together, so that BatchNorm sees both; running statistics
follow the second pass, on R, alone. With rho = 0 this is fine-tuning.

Unverified: rho, which the authors' library does not give; and ``orthogonal``, after the abstract
of ROSU alone, without its transported update and its amplification.

Source: Kim, Kim, Chae and Yoon, NeurIPS 2025, after their library torchunlearn; ROSU:
Retain-Neutral Surrogates for Min-Max Unlearning 2026, arXiv:2605.05871.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD

from unlearn_bench.api import (
    Access,
    Check,
    Context,
    Momentum,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    check_finite,
    global_norm,
    method,
    training,
)


@method(
    "uam",
    access=Access.BOTH,
    source="NeurIPS 2025",
    family="fine-tuning",
    year=2025,
    check=Check(quick={"epochs": 1, "batch_size": 64}),
)
def uam(
    model: nn.Module,
    ctx: Context,
    *,
    rho: NonNegativeFloat = 0.5,
    schedule: Literal["constant", "cosine"] = "constant",
    orthogonal: bool = False,
    epochs: PositiveInt = 5,
    lr: PositiveFloat = 0.01,
    momentum: Momentum = 0.9,
    weight_decay: NonNegativeFloat = 5e-4,
    batch_size: PositiveInt = 128,
) -> nn.Module:
    """Minimise the retain loss around the point of a high forget loss.

    Args:
        rho: Distance from theta to that point. Ours: the authors' library gives none.
        schedule: Keep ``rho`` constant or let it fall to 0 along a cosine, step by step; the
            library has both. Ours: constant.
        orthogonal: Take from g_F its part along the retain gradient first (ROSU). Official code,
            the library: not there.
        epochs: Passes over R; F repeats alongside. Official code's example.
        lr: SGD step size. Official code's example.
        momentum: Of SGD. Official code's example.
        weight_decay: L2 penalty. Official code's example.
        batch_size: Examples of R, and of F, per step. Official code's example.
    """
    moving = [p for p in model.parameters() if p.requires_grad]
    optimizer = SGD(moving, lr=lr, momentum=momentum, weight_decay=weight_decay)
    steps = epochs * math.ceil(len(ctx.retain) / batch_size)
    forget = ctx.forget.forever(batch_size)
    done = 0
    with training(model):
        for _ in range(epochs):
            for x, y in ctx.retain.epochs(1, batch_size):
                x_forget, y_forget = next(forget)
                with training(model, "batch"):
                    logits = model(torch.cat([x_forget, x])).split([len(x_forget), len(x)])
                lose = cross_entropy(logits[0], y_forget)
                ascent = gradients(lose, moving, retain_graph=orthogonal)
                if orthogonal:
                    along = gradients(cross_entropy(logits[1], y), moving)
                    ascent = without(ascent, along)
                fall = (1 + math.cos(math.pi * done / steps)) / 2 if schedule == "cosine" else 1.0
                start = [p.detach().clone() for p in moving]
                move(moving, ascent, rho * fall)
                keep = cross_entropy(model(x), y)
                optimizer.zero_grad(set_to_none=True)
                keep.backward()
                restore(moving, start)
                optimizer.step()
                done += 1
                ctx.log(retain_loss=keep, forget_loss=lose)
            check_finite(keep, "lower uam.rho or uam.lr")
    return model


def gradients(
    loss: Tensor, parameters: list[nn.Parameter], retain_graph: bool = False
) -> list[Tensor]:
    """Return a loss's gradients by the parameters, 0 by those that it does not depend on."""
    found = torch.autograd.grad(loss, parameters, retain_graph=retain_graph, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


@torch.no_grad()
def move(parameters: list[nn.Parameter], direction: list[Tensor], distance: float) -> None:
    """Move the parameters by ``distance`` along a direction, all taken as one vector."""
    norm = global_norm(direction).clamp_min(1e-16)
    for parameter, part in zip(parameters, direction, strict=True):
        parameter.add_(distance * part / norm)


@torch.no_grad()
def restore(parameters: list[nn.Parameter], start: list[Tensor]) -> None:
    """Put the parameters back, to the bit: subtracting what was added would not."""
    for parameter, before in zip(parameters, start, strict=True):
        parameter.copy_(before)


def without(vector: list[Tensor], direction: list[Tensor]) -> list[Tensor]:
    """Return the vector less its projection on a direction."""
    shared = torch.stack([(v * d).sum() for v, d in zip(vector, direction, strict=True)]).sum()
    share = shared / global_norm(direction).square().clamp_min(1e-32)
    return [v - share * d for v, d in zip(vector, direction, strict=True)]
