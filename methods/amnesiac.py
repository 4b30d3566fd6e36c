"""Amnesiac unlearning: take back the weight updates of the batches that held forgotten data.

``theta' = theta_T - sum of (theta_t+1 - theta_t)`` over the steps t of the original's training
whose batch held an example of F, then a short repair by cross-entropy on R. This is the method
that needs the training log; plain relabelling, which goes by the same name elsewhere, is
``random_label``.

The share of steps hit is ``1 - (1 - |F|/N)^batch_size``. With batches of 64 that is 47 % for 1 %
of the data and nearly all for 10 %, where the subtraction leaves little more than the initial
weights. It is
logged as ``hit_share``. Only parameters are restored; BatchNorm's running statistics stay what
training left; only the repair updates them.

Source: Graves, Nagisetty and Ganesh, AAAI 2021, arXiv:2010.10981; particulars as the official code
has them; the paper itself was not read.
"""

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim import Adam

from unlearn_bench.api import (
    Access,
    BatchNormMode,
    Check,
    Context,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    check_finite,
    method,
    training,
)


@method(
    "amnesiac",
    access=Access.LOG | Access.RETAIN,
    source="arXiv:2010.10981",
    family="editing",
    year=2021,
    check=Check(quick={"repair_epochs": 1}, probes={"repair_epochs": 2}),
)
def amnesiac(
    model: nn.Module,
    ctx: Context,
    *,
    repair_epochs: NonNegativeInt = 10,
    lr: PositiveFloat = 1e-3,
    batch_size: PositiveInt = 64,
    batch_norm: BatchNormMode = "train",
) -> nn.Module:
    """Subtract the logged updates, then train on R.

    Args:
        repair_epochs: Passes over R; 0 leaves it at the subtraction. Official code; some of its
            notebooks have 5.
        lr: Step size of the repair. Official code: 1e-3, as in its training, by Adam there too;
            here by Adam whatever the recipe trains with (ours).
        batch_size: Examples per step of the repair. Official code.
        batch_norm: What BatchNorm does with the batches' statistics. Common practice: train.
    """
    log = ctx.training_log
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # The log is in float64: thousands of small updates make up the change.
            parameter.copy_(parameter.double() - log.change[name])
    ctx.log(hits=log.hits, steps=log.steps, hit_share=log.hits / log.steps)

    optimizer = Adam(model.parameters(), lr=lr)
    with training(model, batch_norm):
        for _ in range(repair_epochs):
            for x, y in ctx.retain.epochs(1, batch_size):
                loss = cross_entropy(model(x), y)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                ctx.log(retain_loss=loss)
            check_finite(loss, "lower amnesiac.lr")
    return model
