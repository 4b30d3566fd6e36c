"""FCS, Forget-Contrast-Strengthen: blur the forget set once, then contrast and repair in turns.

1. One pass over F minimises ``KL(uniform || f)``.
2. Eight times: (a) over pairs of batches of F and R, with logits Z_F [n, C] and Z_R [m, C], Z_R
   held fixed, minimise the mean of ``-log_softmax(Z_F Z_R^T / 1.15)``, the softmax running over
   the R batch: every forget example is to be equally like all retain examples; (b) one pass of
   ``CE(retain)``.

Where R has fewer batches than F, the contrast stops with R and its cosine does not reach its end,
as in the code read. The contrast is at least log m, which it is where all similarities of a row
are equal. Each of the three steps keeps its own optimiser over the rounds.

First place of the NeurIPS 2023 unlearning challenge. Only the re-implementation of Cadet et al. was
read: its retain loader does not augment, while here the recipe augments as in training.

Source: Triantafillou et al. 2024, arXiv:2406.09073; Cadet et al. 2024, arXiv:2410.01276.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR

from unlearn_bench.api import (
    Access,
    BatchNormMode,
    Check,
    Context,
    Momentum,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    check_finite,
    descend,
    kl_divergence,
    method,
    training,
)


@method(
    "fcs",
    access=Access.BOTH,
    source="arXiv:2410.01276",
    family="challenge",
    year=2023,
    check=Check(
        quick={"rounds": 1, "forget_batch_size": 8, "batch_size": 64},
        probes={"rounds": 2, "last_contrast_lr": 1e-4, "batch_size": 32},
    ),
)
def fcs(
    model: nn.Module,
    ctx: Context,
    *,
    rounds: NonNegativeInt = 8,
    temperature: PositiveFloat = 1.15,
    blur_lr: PositiveFloat = 5e-3,
    contrast_lr: PositiveFloat = 3e-4,
    last_contrast_lr: NonNegativeFloat = 1e-6,
    lr: PositiveFloat = 4e-3,
    momentum: Momentum = 0.9,
    weight_decay: NonNegativeFloat = 0.01,
    forget_batch_size: PositiveInt = 256,
    batch_size: PositiveInt = 256,
    batch_norm: BatchNormMode = "train",
) -> nn.Module:
    """Blur F, then contrast F with R and train on R in turns.

    Args:
        rounds: Turns of contrast and repair. Re-implementation.
        temperature: What similarities are divided by. Re-implementation.
        blur_lr: SGD step size of the first step. Re-implementation.
        contrast_lr: SGD step size of the contrast at the beginning. Re-implementation.
        last_contrast_lr: What it falls to on a cosine per step. Re-implementation.
        lr: SGD step size on R. Re-implementation: 1e-3 per 64 examples.
        momentum: Of all three optimisers. Re-implementation.
        weight_decay: L2 penalty on R alone. Re-implementation.
        forget_batch_size: Examples of F per step. Re-implementation.
        batch_size: Examples of R per step. Re-implementation.
        batch_norm: What BatchNorm does with the batches' statistics. Re-implementation: train; the
            passes over R undo what the passes over F do to them.
    """
    blurring = SGD(model.parameters(), blur_lr, momentum)
    contrasting = SGD(model.parameters(), contrast_lr, momentum)
    repairing = SGD(model.parameters(), lr, momentum, weight_decay=weight_decay)
    steps = max(1, rounds) * math.ceil(len(ctx.forget) / forget_batch_size)
    schedule = CosineAnnealingLR(contrasting, T_max=steps, eta_min=last_contrast_lr)
    with training(model, batch_norm):
        for x, _ in ctx.forget.epochs(1, forget_batch_size):
            logits = model(x)
            loss = kl_divergence(torch.zeros_like(logits), logits)
            blurring.zero_grad(set_to_none=True)
            loss.backward()
            blurring.step()
            ctx.log(blur_loss=loss)
        check_finite(loss, "lower fcs.blur_lr")
        for _ in range(rounds):
            pairs = zip(
                ctx.forget.epochs(1, forget_batch_size),
                ctx.retain.epochs(1, batch_size),
                strict=False,
            )
            for (x_forget, _), (x_retain, _) in pairs:
                loss = contrast(model(x_forget), model(x_retain).detach(), temperature)
                contrasting.zero_grad(set_to_none=True)
                loss.backward()
                contrasting.step()
                schedule.step()
                ctx.log(contrast_loss=loss)
            check_finite(loss, "lower fcs.contrast_lr")
            loss = descend(model, ctx.retain.epochs(1, batch_size), repairing, ctx.log)
            check_finite(loss, "lower fcs.lr")
    return model


def contrast(forget: Tensor, retain: Tensor, temperature: float) -> Tensor:
    """Return the mean of -log_softmax over similarities [n, m] of logits [n, C] and [m, C]."""
    return -log_softmax(forget @ retain.T / temperature, 1).mean()
