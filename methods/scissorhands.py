"""Scissorhands: cut out the weights that F needs most, then train what is left in their place.

1. With the gradient of one batch of F at theta0, all weights are ranked by ``|grad CE * theta|``.
   Those above the quantile ``sparsity`` that lie in the last blocks and the head, norms apart, are
   drawn again: matrices and kernels from Kaiming's uniform distribution, biases 0.
2. Each pass goes over R and, beside it, once over F, and minimises
   ``CE(retain) - lambda CE(forget)``. In the last blocks the gradient g is kept from undoing the
   cut: with h the gradient of -CE on one batch of F at the start of the pass, where <g, h> < 0

       g <- g + v h,   v = max(margin, -<g, h> / (|h|^2 + 1e-3)),

   the solution of the quadratic programme of GEM for one constraint. What is left of R then
   follows ``CE(retain)`` alone.

In training the whole model moves. Where half of a small network lies in the last blocks, the cut
costs much of R, and the passes must bring it back.

Source: Wu and Harandi, ECCV 2024, arXiv:2401.06187; particulars as the official code has them.
"""

import math
from itertools import zip_longest
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD

from unlearn_bench.api import (
    Access,
    BatchNormMode,
    Check,
    Context,
    Fraction,
    Momentum,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Tunable,
    check_finite,
    dot,
    evaluating,
    fan_in,
    loss_gradients,
    method,
    norms,
    tail,
    training,
)

EPS = 1e-3


@method(
    "scissorhands",
    access=Access.BOTH,
    source="arXiv:2401.06187",
    family="partial retraining",
    year=2024,
    check=Check(
        quick={"epochs": 1, "batch_size": 32},
        probes={"margin": 5.0},
    ),
)
def scissorhands(
    model: nn.Module,
    ctx: Context,
    *,
    sparsity: Annotated[Fraction, Tunable(0.5, 0.99)] = 0.97,
    blocks: PositiveInt = 2,
    lambda_forget: Annotated[NonNegativeFloat, Tunable(0.01, 1.0, log=True)] = 0.05,
    project: bool = True,
    margin: Annotated[NonNegativeFloat, Tunable(tune=False)] = 0.5,
    epochs: PositiveInt = 10,
    lr: PositiveFloat = 5e-3,
    momentum: Momentum = 0.9,
    weight_decay: NonNegativeFloat = 5e-4,
    batch_size: PositiveInt = 256,
    batch_norm: BatchNormMode = "train",
) -> nn.Module:
    """Redraw what F needs most of the last blocks, and train on R against F.

    Args:
        sparsity: Share of all weights that stays: 0.97 for a random tenth of CIFAR-10, 0.9 for a
            class of SVHN. Official code.
        blocks: Last blocks in which weights are drawn again and gradients projected; the official
            code, of a ResNet's four stages, takes two, for a class of SVHN one. Official code.
        lambda_forget: lambda: 0.05 for a random tenth of CIFAR-10, 0.1 for a class of SVHN.
            Official code.
        project: Whether gradients are projected. Official code.
        margin: Least length of the projection, in that of h. Official code.
        epochs: Passes over R, each with one over F. Official code.
        lr: SGD step size: 5e-3 for a random tenth of CIFAR-10, 1e-3 for a class of SVHN. Official
            code.
        momentum: Of SGD. Official code.
        weight_decay: L2 penalty. Official code.
        batch_size: Examples of R, and of F, per step. Official code.
        batch_norm: What BatchNorm does with the batches' statistics. Official code: train.
    """
    parts = tail(model, blocks)
    moving = [p for p in model.parameters() if p.requires_grad]
    late = list(dict.fromkeys(p for part in parts for p in part.parameters() if p.requires_grad))
    with ctx.precompute():
        saliency = forget_gradient(model, ctx, moving, batch_size)
        cut = most_salient(moving, saliency, 1 - sparsity)
    redraw(model, parts, cut, ctx)
    optimizer = SGD(moving, lr=lr, momentum=momentum, weight_decay=weight_decay)
    for _ in range(epochs):
        guard = [-g for g in forget_gradient(model, ctx, late, batch_size)] if project else []
        retain, forget = ctx.retain.epochs(1, batch_size), ctx.forget.epochs(1, batch_size)
        with training(model, batch_norm):
            for kept, gone in zip_longest(retain, forget):
                if kept is None:
                    break
                optimizer.zero_grad(set_to_none=True)
                keep = cross_entropy(model(kept[0]), kept[1])
                loss = keep
                if gone is not None:
                    lose = cross_entropy(model(gone[0]), gone[1])
                    loss = keep - lambda_forget * lose
                    ctx.log(retain_loss=keep, forget_loss=lose)
                else:
                    ctx.log(retain_loss=keep)
                loss.backward()
                if gone is not None and project:
                    keep_from_undoing(late, guard, margin)
                optimizer.step()
        check_finite(loss, "lower scissorhands.lr")
    return model


def forget_gradient(
    model: nn.Module, ctx: Context, parameters: list[nn.Parameter], batch_size: int
) -> list[Tensor]:
    """Return the gradient of the mean cross-entropy on one batch of F, the model in eval mode."""
    x, y = next(ctx.forget.epochs(1, batch_size))
    with evaluating(model), torch.enable_grad():
        return loss_gradients(cross_entropy(model(x), y), parameters)


def most_salient(
    parameters: list[nn.Parameter], gradient: list[Tensor], share: float
) -> dict[nn.Parameter, Tensor]:
    """Return by parameter a bool mask of the weights with the largest ``|gradient * weight|``."""
    scores = [(g * p.detach()).abs() for g, p in zip(gradient, parameters, strict=True)]
    flat = torch.cat([score.flatten() for score in scores])
    kept = len(flat) - round(share * len(flat))
    # torch.quantile refuses more than 16 million elements.
    limit = flat.kthvalue(kept).values if kept else flat.new_tensor(-math.inf)
    return {p: score > limit for p, score in zip(parameters, scores, strict=True)}


@torch.no_grad()
def redraw(
    model: nn.Module, parts: list[nn.Module], cut: dict[nn.Parameter, Tensor], ctx: Context
) -> None:
    """Draw masked matrices and kernels of some parts again and set masked biases to 0, in place.

    What is neither stays: norms, and embeddings that no layer multiplies by.
    """
    normalising = {id(m) for m in norms(model)}
    drawn = 0
    for module in dict.fromkeys(m for part in parts for m in part.modules()):
        if id(module) in normalising:
            continue
        for name, parameter in module.named_parameters(recurse=False):
            if name.endswith("bias"):
                fresh = torch.zeros_like(parameter)
            elif name.endswith("weight") and parameter.dim() >= 2:
                # Kaiming's with a = sqrt(5), as torch draws layers.
                bound = 1 / math.sqrt(fan_in(parameter))
                uniform = torch.rand(parameter.shape, generator=ctx.rng)
                fresh = ((2 * uniform - 1) * bound).to(parameter)
            else:
                continue
            parameter.copy_(torch.where(cut[parameter], fresh, parameter))
            drawn += int(cut[parameter].sum())
    ctx.log(redrawn=drawn)


@torch.no_grad()
def keep_from_undoing(parameters: list[nn.Parameter], guard: list[Tensor], margin: float) -> None:
    """Project the gradients where they oppose the guard, in place, as in step 2 above.

    Args:
        parameters: With gradients; those without count as 0.
        guard: h, of their shapes.
        margin: Least v.
    """
    held = [(p, h) for p, h in zip(parameters, guard, strict=True) if p.grad is not None]
    gradients = [p.grad for p, _ in held if p.grad is not None]
    along = dot(gradients, [h for _, h in held])
    length = (-along / (dot(guard, guard) + EPS)).clamp_min(margin)
    length = torch.where(along < 0, length, 0.0)
    for gradient, (_, h) in zip(gradients, held, strict=True):
        gradient += length * h
