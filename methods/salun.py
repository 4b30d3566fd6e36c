"""SalUn: random labelling that moves only the weights which the forget loss is sensitive to.

The mask keeps the largest entries of ``|grad CE(forget)|`` at the original weights, counted over
all parameters together. Then cross-entropy on F under wrong labels and on R under true ones is
minimised, as random labelling does, with every other weight held. Masking the gradient alone
would let weight decay and momentum move the rest, as the official code once did.

The default rate is too small for a few dozen steps: on the suite mnist-small 30 % of F stay. With
``lr=0.1`` nothing stays, and accuracy on R is 91 %.

Source: Fan et al., ICLR 2024, arXiv:2310.12508.
"""

from typing import Literal

import torch
from torch import nn
from torch.optim import SGD, Adam

from unlearn_bench.api import (
    Access,
    BatchNormMode,
    Check,
    Context,
    Fraction,
    MaskedOptimizer,
    NonNegativeFloat,
    PassOrder,
    Pool,
    PositiveFloat,
    PositiveInt,
    Probe,
    Relabel,
    by_parameter,
    largest,
    method,
    summed_gradient,
    train_relabelled,
)


@method(
    "salun",
    access=Access.BOTH,
    source="arXiv:2310.12508",
    family="masking",
    year=2024,
    check=Check(
        quick={"epochs": 1, "batch_size": 64},
        probes={
            "relabel": Probe("each_epoch", given={"epochs": 2}),
            "pool": "all",
            "ratio": 0.2,
            "retain_fraction": 0.5,
        },
    ),
)
def salun(
    model: nn.Module,
    ctx: Context,
    *,
    ratio: Fraction = 0.5,
    epochs: PositiveInt = 10,
    optimizer: Literal["adam", "sgd"] = "sgd",
    lr: PositiveFloat = 0.013,
    weight_decay: NonNegativeFloat = 5e-4,
    batch_size: PositiveInt = 256,
    relabel: Relabel = "once",
    pool: Pool = "retain_classes",
    order: PassOrder = "sequential",
    retain_fraction: Fraction = 1.0,
    batch_norm: BatchNormMode = "train",
) -> nn.Module:
    """Minimise cross-entropy on relabelled F and true R over the salient weights.

    Args:
        ratio: Share of all weights that may move; 1 is random labelling. Paper: 0.5.
        epochs: Passes over F and R. Official code, for a random tenth of CIFAR-10.
        optimizer: ``sgd`` with momentum 0.9, or ``adam``. Official code: sgd.
        lr: Step size. Official code, likewise.
        weight_decay: L2 penalty on the weights that may move. Official code.
        batch_size: Examples per step, of the mask too. Official code.
        relabel: Draw the wrong labels ``once`` per run (paper) or again ``each_epoch`` (official
            code). Paper.
        pool: Labels to draw from: ``retain_classes`` leaves out the forgotten classes and the
            example's own, ``other`` leaves out only its own (paper), ``all`` leaves out none
            (official code). Ours, so that one forgotten class is not taught as another.
        order: ``sequential``, F before R (CIFAR-10), or ``mixed`` batches (CIFAR-100). Official
            code.
        retain_fraction: Share of R to train on; 0 trains on F alone, with BatchNorm's statistics
            as they are (ours: mislabelled F alone would set them). Paper: 1.
        batch_norm: What BatchNorm does with the batches' statistics. Common practice: train.
    """
    with ctx.precompute():
        gradient = summed_gradient(model, ctx.forget.batches(batch_size))
        saliency = {name: entries.abs() for name, entries in gradient.items()}
        masks = largest(by_parameter(model, saliency), ratio)

    rule: torch.optim.Optimizer
    if optimizer == "adam":
        rule = Adam(model.parameters(), lr=lr, weight_decay=weight_decay)
    else:
        rule = SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=weight_decay)
    train_relabelled(
        model,
        ctx,
        MaskedOptimizer(rule, masks),
        epochs=epochs,
        batch_size=batch_size,
        relabel=relabel,
        pool=pool,
        order=order,
        retain_fraction=retain_fraction,
        batch_norm=batch_norm,
        advice="lower salun.lr",
    )
    return model
