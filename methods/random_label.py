"""Random labelling: teach the forget examples wrong labels while keeping the rest.

Minimises cross-entropy on F with labels drawn at random from the other classes, together with
R under its true labels. Where whole classes are forgotten the draw leaves all of them out.

The defaults are the setting in the code of SSD. They are made for some hundred steps: 3 epochs of
fewer than 30 batches, as in the suite mnist-small, forget in part only. There ``optimizer=sgd,
lr=0.013, epochs=9, batch_size=36`` leaves nothing of F, and accuracy on R is 96 %.

Source: as a baseline in Golatkar et al. 2020, arXiv:1911.04933; settings of Foster et al. 2023
(SSD), arXiv:2308.07707, and Fan et al. 2023 (SalUn), arXiv:2310.12508.
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
    NonNegativeFloat,
    PassOrder,
    Pool,
    PositiveFloat,
    PositiveInt,
    Probe,
    Relabel,
    method,
    train_relabelled,
)


@method(
    "random_label",
    access=Access.BOTH,
    source="arXiv:1911.04933",
    family="relabelling",
    year=2020,
    check=Check(
        quick={"epochs": 1},
        probes={
            "relabel": Probe("each_epoch", given={"epochs": 2}),
            "pool": "all",
            "weight_decay": 0.1,
            "retain_fraction": 0.5,
        },
    ),
)
def random_label(
    model: nn.Module,
    ctx: Context,
    *,
    epochs: PositiveInt = 3,
    optimizer: Literal["adam", "sgd"] = "adam",
    lr: PositiveFloat = 1e-4,
    weight_decay: NonNegativeFloat = 0.0,
    batch_size: PositiveInt = 128,
    relabel: Relabel = "once",
    pool: Pool = "retain_classes",
    order: PassOrder = "mixed",
    retain_fraction: Fraction = 1.0,
    batch_norm: BatchNormMode = "train",
) -> nn.Module:
    """Minimise cross-entropy on relabelled F and true R.

    Args:
        epochs: Passes over F and R; SalUn's code has 10. Official code of SSD.
        optimizer: ``adam``, or ``sgd`` with momentum 0.9 as in SalUn's code. Official code of
            SSD: adam.
        lr: Step size; SalUn's code has 0.013 (sgd). Official code of SSD.
        weight_decay: L2 penalty; SalUn's code has 5e-4. Official code of SSD: 0.
        batch_size: Examples per step; SalUn's code has 256. Official code of SSD.
        relabel: Draw the wrong labels ``once`` per run, or again for ``each_epoch`` as SalUn's
            code does. Official code of SSD: once.
        pool: Labels to draw from: ``retain_classes`` leaves out the forgotten classes and the
            example's own, ``other`` leaves out only its own (SSD's code), ``all`` leaves out none
            (SalUn's code). Ours, so that one forgotten class is not taught as another.
        order: ``mixed`` batches of F and R, or ``sequential``, F before R, as in SalUn's code for
            CIFAR-10. Official code of SSD: mixed.
        retain_fraction: Share of R to train on; 0 trains on F alone, with BatchNorm's statistics
            as they are, which mislabelled F would otherwise set. Official code of SSD: 1.
        batch_norm: What BatchNorm does with the batches' statistics. Common practice: train.
    """
    step_rule: torch.optim.Optimizer
    if optimizer == "adam":
        step_rule = Adam(model.parameters(), lr=lr, weight_decay=weight_decay)
    else:
        step_rule = SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=weight_decay)

    train_relabelled(
        model,
        ctx,
        step_rule,
        epochs=epochs,
        batch_size=batch_size,
        relabel=relabel,
        pool=pool,
        order=order,
        retain_fraction=retain_fraction,
        batch_norm=batch_norm,
        advice="lower random_label.lr",
    )
    return model
