"""RUM: split F by how far it is memorised, and give each part what it needs.

With ``mem(x, y) = p_seen(y | x) - p_unseen(y | x)``, of two models trained on halves of the data of
which one has seen the example, F is divided into three equal groups.

1. low: nothing is done; the model is as sure of these without having seen them.
2. mid: ``CE(retain)`` is minimised, which lets go of them.
3. high: SalUn. ``CE`` on the group under wrong labels, drawn again for each pass, and on R under
   true ones, over the half of the weights with the largest ``|grad CE(group)|`` at the model that
   step 2 has left; all others are held.

The two trainings take as long as one retraining and are counted as precomputation, so that in time
RUM gains nothing here over retraining; the authors compute scores once, for many requests, or use
proxies that a training leaves behind. Made for single examples: of a whole class, two thirds would
be left to what the last third teaches.

The official code masks gradients alone, so that weight decay moves the other weights too, and does
not augment; here they are held, and the recipe augments as in training.

Source: Zhao et al., NeurIPS 2024, arXiv:2406.01257; particulars as the official code has them.
"""

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
    MaskedOptimizer,
    Momentum,
    NonNegativeFloat,
    NonNegativeInt,
    Pool,
    PositiveFloat,
    PositiveInt,
    Probe,
    Split,
    by_parameter,
    check_finite,
    descend,
    heldout_memorisation,
    largest,
    method,
    relabelled_pass,
    summed_gradient,
    training,
    wrong_labels,
)


@method(
    "rum",
    access=Access.BOTH,
    source="arXiv:2406.01257",
    family="relabelling",
    year=2024,
    forgets=("random", "part", "subclass", "group", "memorised"),
    check=Check(
        quick={"tune_epochs": 1, "epochs": 1, "batch_size": 64, "lr": 0.01, "tune_lr": 0.01},
        probes={"pool": Probe("all", {"epochs": 10}), "ratio": 0.2},
    ),
)
def rum(
    model: nn.Module,
    ctx: Context,
    *,
    tune_epochs: NonNegativeInt = 10,
    tune_lr: PositiveFloat = 0.1,
    ratio: Fraction = 0.5,
    epochs: NonNegativeInt = 5,
    lr: PositiveFloat = 0.1,
    momentum: Momentum = 0.9,
    weight_decay: NonNegativeFloat = 5e-4,
    batch_size: PositiveInt = 256,
    pool: Pool = "other",
    batch_norm: BatchNormMode = "train",
) -> nn.Module:
    """Leave what is hardly memorised, fine-tune on R for the middle, relabel what is most.

    Args:
        tune_epochs: Passes over R of step 2. Official code.
        tune_lr: SGD step size of step 2. Official code.
        ratio: Share of all weights that step 3 may move. Official code.
        epochs: Passes over the group and R of step 3. Official code.
        lr: SGD step size of step 3. Official code.
        momentum: Of SGD in either step. Official code.
        weight_decay: L2 penalty in either step, in step 3 on the weights that may move. Official
            code.
        batch_size: Examples per step, of the mask too. Official code.
        pool: Labels to draw from: ``other`` leaves out the example's own, ``all`` leaves out none
            (official code), ``retain_classes`` leaves out forgotten classes as well. Ours.
        batch_norm: What BatchNorm does with the batches' statistics. Official code: train.
    """
    scores = heldout_memorisation(ctx)
    groups = scores.argsort(stable=True).tensor_split(3)
    for name, group in zip(("low", "mid", "high"), groups, strict=True):
        ctx.log(**{f"{name}_memorisation": scores[group].mean() if len(group) else 0.0})
    optimizer = SGD(model.parameters(), tune_lr, momentum, weight_decay=weight_decay)
    with training(model, batch_norm):
        for _ in range(tune_epochs):
            loss = descend(model, ctx.retain.epochs(1, batch_size), optimizer, ctx.log)
            check_finite(loss, "lower rum.tune_lr")
    if len(groups[2]):
        high = ctx.forget.at(groups[2].sort().values)
        rule = SGD(model.parameters(), lr, momentum, weight_decay=weight_decay)
        gradient = summed_gradient(model, high.batches(batch_size))
        saliency = {name: entries.abs() for name, entries in gradient.items()}
        masked = MaskedOptimizer(rule, largest(by_parameter(model, saliency), ratio))
        with training(model, batch_norm):
            for _ in range(epochs):
                relabel_and_learn(model, ctx, high, masked, pool, batch_size)
    return model


def relabel_and_learn(
    model: nn.Module,
    ctx: Context,
    group: Split,
    optimizer: MaskedOptimizer,
    pool: Pool,
    batch_size: int,
) -> None:
    """Take one pass over the group under newly drawn wrong labels and R, in mixed batches."""
    drawn = wrong_labels(group.labels, ctx.num_classes, pool, ctx.forget_classes, ctx.rng)
    loss = torch.zeros(())
    for x, y in relabelled_pass(group.relabelled(drawn), ctx.retain, "mixed", batch_size):
        loss = cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        ctx.log(loss=loss)
    check_finite(loss, "lower rum.lr")
