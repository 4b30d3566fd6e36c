"""NegGrad+: descend on the retain loss while ascending on the forget loss.

Minimises with SGD

    alpha * (CE(retain) + anchor / 2 * ||theta - theta0||^2) - (1 - alpha) * CE(forget)

Plain gradient ascent destroys the model within a few steps; the retain term holds it in place.
The loss still has no lower bound, and nothing stops the ascent once F is forgotten.

The authors have two settings. The default is that of their large experiments: alpha 0.9999, no
anchor, BatchNorm in train mode. Its ascent weighs a ten-thousandth and needs thousands of steps;
on a few hundred it is fine-tuning. That of their small experiments is alpha 0.95, anchor 0.1, 10
epochs and BatchNorm in eval mode (``batch_norm`` and ``forget_batch_norm``); its ascent weighs 500
times more, which wrecks a network that is not small. On the few dozen steps of the suite digits,
alpha 0.9 with lr 0.04 and BatchNorm in train mode forgets: 0.5 % of F is left and 99.8 % of R. On
the suite mnist-small ``alpha=0.95`` leaves nothing of F, and accuracy on R is 93 %.

Both terms should see BatchNorm in one mode. With R normalised by its batches and F by the running
statistics, the ascent spoils what the model answers in eval mode and the retain loss does not
notice: on a small task accuracy on R fell from 0.98 to 0.40. In train mode the running statistics
follow R and F in equal parts, as in the official code.

Source: Kurmanji et al., NeurIPS 2023, arXiv:2302.09880; settings as their code has them.
"""

from typing import Annotated

import torch
from torch import nn
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
    method,
    training,
)


@method(
    "neg_grad_plus",
    access=Access.BOTH,
    source="arXiv:2302.09880",
    family="ascent",
    year=2023,
    check=Check(
        quick={"epochs": 1, "forget_batch_size": 16},
        probes={"alpha": 0.5, "weight_decay": 0.1, "anchor": 10.0, "momentum": 0.9},
    ),
)
def neg_grad_plus(
    model: nn.Module,
    ctx: Context,
    *,
    epochs: PositiveInt = 5,
    lr: PositiveFloat = 0.01,
    momentum: Momentum = 0.0,
    weight_decay: NonNegativeFloat = 0.0,
    alpha: Annotated[Fraction, Tunable(0.8, 1.0)] = 0.9999,
    anchor: NonNegativeFloat = 0.0,
    batch_size: PositiveInt = 32,
    forget_batch_size: PositiveInt = 16,
    batch_norm: BatchNormMode = "train",
    forget_batch_norm: BatchNormMode = "train",
) -> nn.Module:
    """Minimise the mixed objective.

    Args:
        epochs: Passes over R; F repeats alongside. At small scale 10. Official code.
        lr: SGD step size. Official code.
        momentum: Of SGD; none. Official code.
        weight_decay: L2 penalty; none. Official code.
        alpha: Weight of the retain loss; 1 is fine-tuning, 0 gradient ascent. At small scale
            0.95. Official code.
        anchor: Weight, itself multiplied by ``alpha``, of half the squared distance from the
            original weights. At small scale 0.1, at large scale none. Official code.
        batch_size: Examples of R per step. Official code.
        forget_batch_size: Examples of F per step. Official code.
        batch_norm: What BatchNorm does with the statistics of R. At small scale ``eval``.
            Official code.
        forget_batch_norm: Likewise with those of F, where ``train`` lets the running statistics
            drift towards F. At small scale ``eval``. Official code.
    """
    optimizer = SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
    start = [p.detach().clone() for p in model.parameters()] if anchor else []
    # Freshly shuffled and augmented whenever it is exhausted: cycling would replay one pass.
    forget = ctx.forget.forever(forget_batch_size)
    with training(model, batch_norm):
        for _ in range(epochs):
            for x, y in ctx.retain.epochs(1, batch_size):
                keep = cross_entropy(model(x), y)
                x_forget, y_forget = next(forget)
                with training(model, forget_batch_norm):
                    lose = cross_entropy(model(x_forget), y_forget)
                loss = alpha * keep - (1 - alpha) * lose
                if anchor:
                    moved = zip(model.parameters(), start, strict=True)
                    distance = torch.stack([(p - p0).square().sum() for p, p0 in moved]).sum()
                    loss = loss + alpha * anchor / 2 * distance
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                ctx.log(retain_loss=keep, forget_loss=lose)
            check_finite(loss, "lower neg_grad_plus.lr or raise neg_grad_plus.alpha")
    return model
