"""l1-sparse unlearning: fine-tune on the retain set while pulling all weights towards zero.

Minimises ``CE(retain) + a_t * sum_j |theta_j|`` with SGD, the sum over all parameters; a_t falls
linearly from epoch to epoch: a_t = a (1 - t / T) for the first T epochs, then 0. What the retain
set does not need fades, so a pruned model is where fine-tuning forgets best.

How far weights are pulled grows with the step size and the number of steps, so that a weight from
one task says little for another. Published is 5e-4 for ten epochs of CIFAR-10, some 1,760 steps;
by default shorter runs get as much more as they have fewer steps. That keeps the pull, not the
forgetting, for which 0.01 is a small step: on the suite mnist-small 98 % of F stay in 110 steps.
``lr=0.05, batch_size=32, l1=5e-4, epochs=4`` forgets on digits.

Source: Jia et al., NeurIPS 2023, arXiv:2304.04934.
"""

import math
from typing import Annotated

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD

from unlearn_bench.api import (
    Access,
    Check,
    Context,
    Momentum,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Tunable,
    check_finite,
    method,
    training,
)

PUBLISHED_L1 = 5e-4
# Ten epochs over 45,000 images in batches of 256.
PUBLISHED_STEPS = 1760


@method(
    "l1_sparse",
    access=Access.RETAIN,
    source="arXiv:2304.04934",
    family="sparsity",
    year=2023,
    check=Check(quick={"epochs": 2, "batch_size": 64}, probes={"free_epochs": 1}),
)
def l1_sparse(
    model: nn.Module,
    ctx: Context,
    *,
    l1: Annotated[NonNegativeFloat | None, Tunable(1e-6, 1e-2, log=True)] = None,
    epochs: PositiveInt = 10,
    free_epochs: NonNegativeInt = 0,
    lr: PositiveFloat = 0.01,
    momentum: Momentum = 0.9,
    weight_decay: NonNegativeFloat = 5e-4,
    batch_size: PositiveInt = 256,
) -> nn.Module:
    """Minimise cross-entropy on R plus the decaying l1 norm.

    Args:
        l1: The penalty's first weight, a; null takes 5e-4, multiplied by 1760 / steps where there
            are fewer (ours). Large networks take less, about 1e-5. The official command line's
            default, 0.2, belongs to other methods. Paper, as others quote it.
        epochs: Passes over R. Official code.
        free_epochs: Last passes without penalty. Official code: 0.
        lr: SGD step size. Official code.
        momentum: Of SGD. Official code.
        weight_decay: L2 penalty. Official code.
        batch_size: Examples per step. Official code.
    """
    if l1 is None:
        l1 = PUBLISHED_L1 * scale(epochs * math.ceil(len(ctx.retain) / batch_size))
    ctx.log(l1=l1)
    optimizer = SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
    with training(model):
        for epoch in range(epochs):
            weight = penalty(l1, epoch, epochs - free_epochs)
            for x, y in ctx.retain.epochs(1, batch_size):
                keep = cross_entropy(model(x), y)
                norm = torch.stack([p.abs().sum() for p in model.parameters()]).sum()
                loss = keep + weight * norm
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                ctx.log(retain_loss=keep, l1_norm=norm)
            check_finite(loss, "lower l1_sparse.lr or l1_sparse.l1")
    return model


def scale(steps: int) -> float:
    """Return what makes up for a run of fewer steps than the published one, at least 1."""
    return max(1.0, PUBLISHED_STEPS / steps)


def penalty(first: float, epoch: int, epochs: int) -> float:
    """Return a_t of an epoch counted from 0, falling linearly to 0 over ``epochs``."""
    return first * (1 - epoch / epochs) if epoch < epochs else 0.0
