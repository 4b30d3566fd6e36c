"""Boundary Shrink: hand every forgotten example to the class across its nearest boundary.

One FGSM step of radius 0.1 in pixels carries x over the decision boundary; the class t that the
original then gives it, its own excluded, becomes its label. Minimises ``CE(f(x), t)`` on F. The
labels depend on the original alone and are found once, in eval mode, on images without
augmentation.

It also runs on random examples, for which the paper did not design it.

Source: Chen et al., CVPR 2023, arXiv:2303.11570.
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
    PositiveFloat,
    PositiveInt,
    check_finite,
    fgsm,
    method,
    training,
)

Exclude = Literal["own", "all_forget", "none"]


@method(
    "boundary_shrink",
    access=Access.FORGET,
    source="arXiv:2303.11570",
    family="relabelling",
    year=2023,
    check=Check(quick={"epochs": 1, "lr": 1e-2, "batch_size": 16}, probes={"exclude": "none"}),
)
def boundary_shrink(
    model: nn.Module,
    ctx: Context,
    *,
    radius: PositiveFloat = 0.1,
    exclude: Exclude = "own",
    epochs: PositiveInt = 10,
    lr: PositiveFloat = 1e-5,
    momentum: Momentum = 0.9,
    batch_size: PositiveInt = 64,
    batch_norm: BatchNormMode = "eval",
) -> nn.Module:
    """Minimise cross-entropy on F under the nearest other classes.

    Args:
        radius: Of the attack, in pixels of [0, 1]. Official code.
        exclude: Which classes an example may not get: its ``own`` (paper: the nearest incorrect
            one), ``all_forget`` with every other forgotten class (ours), ``none``, which teaches
            the true class again where the attack failed (official code). Paper.
        epochs: Passes over F. Official code.
        lr: SGD step size; DELETE's authors run it at 1e-4 for 20 epochs with batches of 128.
            Official code.
        momentum: Of SGD. Official code.
        batch_size: Examples per step. Official code.
        batch_norm: ``train`` lets the running statistics drift towards F; ``batch`` leaves them
            alone; ``eval`` uses them. Ours: eval.
    """
    with ctx.precompute():
        found = [
            neighbours(model, x, y, ctx, radius, exclude) for x, y in ctx.forget.batches(batch_size)
        ]
    wrong = ctx.forget.relabelled(torch.cat(found))
    optimizer = SGD(model.parameters(), lr=lr, momentum=momentum)
    with training(model, batch_norm):
        for _ in range(epochs):
            for x, y in wrong.epochs(1, batch_size):
                loss = cross_entropy(model(x), y)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                ctx.log(neighbour_loss=loss)
            check_finite(loss, "lower boundary_shrink.lr")
    return model


def neighbours(
    model: nn.Module, x: Tensor, y: Tensor, ctx: Context, radius: float, exclude: Exclude
) -> Tensor:
    """Return the class that the model, in eval mode, gives each example after an FGSM step.

    Args:
        model: In eval mode.
        x: Normalised inputs, [N, C, H, W].
        y: Their labels, [N].
        ctx: For the normalisation and the forgotten classes.
        radius: In pixels of [0, 1].
        exclude: Classes that are not given.

    Returns:
        int64 [N].
    """
    moved = fgsm(model, x, y, ctx.pixels, radius)
    with torch.no_grad():
        logits = model(moved)
    if exclude != "none":
        logits = logits.scatter(1, y.unsqueeze(1), -math.inf)
    if exclude == "all_forget":
        logits[:, list(ctx.forget_classes)] = -math.inf
    nearest: Tensor = logits.argmax(1)
    return nearest
