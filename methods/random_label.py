"""Random labelling: teach the forget examples wrong labels while keeping the rest.

Minimises cross-entropy on F with labels drawn at random from the other classes, together with
R under its true labels. Where whole classes are forgotten the draw leaves all of them out.

Source: as a baseline in Golatkar et al. 2020, arXiv:1911.04933; settings of Foster et al. 2023
(SSD), arXiv:2308.07707, and Fan et al. 2023 (SalUn), arXiv:2310.12508.
"""

from typing import Literal

import torch
from torch import nn
from torch.nn.functional import cross_entropy
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
    Split,
    check_finite,
    method,
    relabelled_pass,
    training,
    wrong_labels,
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
    relabel: Literal["once", "each_epoch"] = "once",
    pool: Pool = "retain_classes",
    order: PassOrder = "mixed",
    retain_fraction: Fraction = 1.0,
    batch_norm: BatchNormMode = "train",
) -> nn.Module:
    """Minimise cross-entropy on relabelled F and true R.

    Args:
        epochs: Passes over F and R. SSD's setting 3, SalUn's 10.
        optimizer: ``adam`` as SSD, ``sgd`` with momentum 0.9 as SalUn.
        lr: Step size. SSD's setting 1e-4 (adam), SalUn's 0.013 (sgd).
        weight_decay: L2 penalty. SSD's setting 0, SalUn's 5e-4.
        batch_size: Examples per step. SSD's setting 128, SalUn's 256.
        relabel: Draw the wrong labels ``once`` per run (paper) or anew ``each_epoch`` (SalUn's
            official code).
        pool: Labels to draw from: ``retain_classes`` leaves out the forgotten classes and the
            example's own (ours), ``other`` leaves out only its own (paper), ``all`` leaves out
            none (SalUn's official code).
        order: ``mixed`` batches of F and R (SSD), or ``sequential``, F before R (SalUn).
        retain_fraction: Share of R to train on; 0 trains on F alone, with BatchNorm's statistics
            as they are (ours: mislabelled F alone would set them). Paper: 1.
        batch_norm: What BatchNorm does with the batches' statistics. Common practice: train.
    """
    step_rule: torch.optim.Optimizer
    if optimizer == "adam":
        step_rule = Adam(model.parameters(), lr=lr, weight_decay=weight_decay)
    else:
        step_rule = SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=weight_decay)

    keep = round(retain_fraction * len(ctx.retain)) if retain_fraction else 0
    retain = ctx.retain.subset(keep, ctx.rng) if keep else None

    def relabelled() -> Split:
        drawn = wrong_labels(ctx.forget.labels, ctx.num_classes, pool, ctx.forget_classes, ctx.rng)
        return ctx.forget.relabelled(drawn)

    wrong = relabelled()
    with training(model, batch_norm if retain is not None else "eval"):
        for epoch in range(epochs):
            if epoch and relabel == "each_epoch":
                wrong = relabelled()
            for x, y in relabelled_pass(wrong, retain, order, batch_size):
                loss = cross_entropy(model(x), y)
                step_rule.zero_grad(set_to_none=True)
                loss.backward()
                step_rule.step()
                ctx.log(loss=loss)
            check_finite(loss, "lower random_label.lr")
    return model
