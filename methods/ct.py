"""CT, Convolution Transpose: swap the height and width of every kernel, then fine-tune.

The transposed network sees every image mirrored at its diagonal. Memorised details no longer fit,
while general knowledge is soon relearned. Kernels with unequal sides are left alone, and those of
one pixel do not change. In a transformer only the patch embedding changes, so the effect is small.
Minimises ``CE(retain)`` for three passes on a cosine.

Fifth place of the NeurIPS 2023 unlearning challenge. Only the re-implementation of Cadet et al. was
read: its retain loader does not augment, while here the recipe augments as in training.

The default rate is too small for a few dozen steps: on the suite mnist-small accuracy on R is
86 %. With ``lr=0.03`` it is 95 %, and nothing of F stays.

Source: Triantafillou et al. 2024, arXiv:2406.09073; Cadet et al. 2024, arXiv:2410.01276.
"""

import torch
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR

from unlearn_bench.api import (
    Access,
    Check,
    Context,
    Momentum,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    check_finite,
    descend,
    matrices,
    method,
    training,
)


@method(
    "ct",
    access=Access.RETAIN,
    source="arXiv:2410.01276",
    family="challenge",
    year=2023,
    check=Check(quick={"epochs": 1}),
)
def ct(
    model: nn.Module,
    ctx: Context,
    *,
    epochs: PositiveInt = 3,
    lr: PositiveFloat = 1e-3,
    momentum: Momentum = 0.9,
    weight_decay: NonNegativeFloat = 5e-4,
    batch_size: PositiveInt = 64,
) -> nn.Module:
    """Transpose the kernels, then minimise cross-entropy on R.

    Args:
        epochs: Passes over R. Re-implementation.
        lr: SGD step size, on a cosine per pass. Re-implementation.
        momentum: Of SGD. Re-implementation.
        weight_decay: L2 penalty. Re-implementation.
        batch_size: Examples per step. Re-implementation.
    """
    transpose_kernels(model)
    optimizer = SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
    schedule = CosineAnnealingLR(optimizer, T_max=epochs)
    with training(model):
        for _ in range(epochs):
            loss = descend(model, ctx.retain.epochs(1, batch_size), optimizer, ctx.log)
            schedule.step()
            check_finite(loss, "lower ct.lr")
    return model


@torch.no_grad()
def transpose_kernels(model: nn.Module) -> None:
    """Swap height and width of all square kernels, in place."""
    for weight in matrices(model, "conv").values():
        if weight.dim() == 4 and weight.shape[2] == weight.shape[3]:
            weight.copy_(weight.transpose(2, 3).clone())
