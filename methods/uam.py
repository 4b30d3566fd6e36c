"""UAM, unlearning-aware minimization: learn R from where the model has just unlearned F.

For each batch, g_F is the gradient of the cross-entropy on F at theta and

    g = grad CE(retain) at theta + rho * g_F / ||g_F||

the SGD step with g is taken at theta itself: a min-max problem solved as SAM (sharpness-aware
minimization) solves its own, but for the direction, which is F's. A solution has a low retain
loss although the forget loss is high.

g_F is taken on one batch of F and R together, so that BatchNorm sees both. With rho = 0 this is
fine-tuning.

BatchNorm's running statistics belong to the theta that is returned, not to the moved one: under
those of the moved weights theta seems to have forgotten what comes back as soon as they are
estimated again. So neither pass updates them, and a third, at theta on R, without gradients, does
(``statistics``). The library lets both passes update them, the second at the moved weights; most of
the forgetting then seen is an effect of that.

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
    BatchNormMode,
    Check,
    Context,
    Momentum,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    check_finite,
    global_norm,
    method,
    norms,
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
    schedule: Literal["constant", "cosine"] = "cosine",
    statistics: Literal["retain", "both"] = "retain",
    orthogonal: bool = False,
    epochs: PositiveInt = 5,
    lr: PositiveFloat = 0.01,
    momentum: Momentum = 0.9,
    weight_decay: NonNegativeFloat = 5e-4,
    batch_size: PositiveInt = 128,
) -> nn.Module:
    """Minimise the retain loss around the point of a high forget loss.

    Args:
        rho: Distance from theta to that point; the authors' library gives none. Ours.
        schedule: Let ``rho`` fall to 0 along a cosine, step by step, or keep it constant.
            Official code.
        statistics: What BatchNorm's running statistics follow: ``retain``, R at theta; ``both``,
            as in the library, F and R at theta and then R at the moved weights. Ours.
        orthogonal: Take from g_F its part along the retain gradient first (ROSU), which the
            library does not. Official code.
        epochs: Passes over R; F repeats alongside. Official code.
        lr: SGD step size. Official code.
        momentum: Of SGD. Official code.
        weight_decay: L2 penalty. Official code.
        batch_size: Examples of R, and of F, per step. Official code.
    """
    moving = [p for p in model.parameters() if p.requires_grad]
    optimizer = SGD(moving, lr=lr, momentum=momentum, weight_decay=weight_decay)
    steps = epochs * math.ceil(len(ctx.retain) / batch_size)
    forget = ctx.forget.forever(batch_size)
    done = 0
    passes: BatchNormMode = "train" if statistics == "both" else "batch"
    tracked = passes == "batch" and any(
        getattr(m, "track_running_stats", False) for m in norms(model)
    )
    with training(model):
        for _ in range(epochs):
            for x, y in ctx.retain.epochs(1, batch_size):
                x_forget, y_forget = next(forget)
                with training(model, passes):
                    logits = model(torch.cat([x_forget, x])).split([len(x_forget), len(x)])
                lose = cross_entropy(logits[0], y_forget)
                ascent = gradients(lose, moving, retain_graph=orthogonal)
                if orthogonal:
                    along = gradients(cross_entropy(logits[1], y), moving)
                    ascent = without(ascent, along)
                fall = (1 + math.cos(math.pi * done / steps)) / 2 if schedule == "cosine" else 1.0
                if tracked:
                    with torch.no_grad():
                        model(x)
                start = [p.detach().clone() for p in moving]
                move(moving, ascent, rho * fall)
                with training(model, passes):
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
