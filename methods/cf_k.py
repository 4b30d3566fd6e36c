"""CF-k, catastrophic forgetting of the last k layers: fine-tune those on R and freeze the rest.

Minimises ``CE(retain)`` over the last k convolutions and linear layers and the norms after them,
with the recipe of the authors' original. This is cheaper than fine-tuning everything, but the
frozen layers keep what they know of F. The whole model is in train mode, so that BatchNorm's
statistics follow R in the frozen layers too.

The authors forget mislabelled examples in ResNets of 20 to 110 layers. A whole class fades slowly:
on the suite digits the 30 passes leave 6 % of F (one seed) and seven leave 45 %; with ``lr=0.4,
epochs=7`` none is left and R keeps 100 % (three seeds). The last block alone at a constant 0.1,
frozen BatchNorm kept, leaves 99 %. The comparison of SCRUB's authors trains ``unit=blocks, k=1``
with ``lr=0.01, last_lr=0.01, momentum=0, epochs=10, batch_norm=eval, frozen=eval``.

Source: Goel et al. 2022, arXiv:2201.06640; settings as the official code has them.
"""

from typing import Literal

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts

from unlearn_bench.api import (
    Access,
    BatchNormMode,
    Check,
    Context,
    Momentum,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Probe,
    TailUnit,
    check_finite,
    heads,
    last_layers,
    method,
    tail,
    training,
)


@method(
    "cf_k",
    access=Access.RETAIN,
    source="arXiv:2201.06640",
    family="partial retraining",
    year=2022,
    check=Check(
        quick={"epochs": 1, "lr": 0.01},
        probes={
            "unit": "blocks",
            "last_lr": Probe(0.01, given={"epochs": 2, "lr": 0.05, "cycle": 2}),
            "cycle": Probe(2, given={"epochs": 2, "lr": 0.05}),
            "cycle_growth": Probe(1, given={"epochs": 3, "lr": 0.05}),
            "max_norm": 0.01,
        },
    ),
)
def cf_k(
    model: nn.Module,
    ctx: Context,
    *,
    k: PositiveInt = 3,
    unit: TailUnit = "layers",
    epochs: PositiveInt = 30,
    lr: PositiveFloat = 0.1,
    last_lr: PositiveFloat = 5e-3,
    cycle: PositiveInt = 1,
    cycle_growth: PositiveInt = 2,
    momentum: Momentum = 0.9,
    weight_decay: NonNegativeFloat = 5e-5,
    max_norm: PositiveFloat = 10.0,
    pull: NonNegativeFloat = 0.0,
    keep_head: bool = False,
    batch_norm: BatchNormMode = "train",
    frozen: Literal["train", "eval"] = "train",
    batch_size: PositiveInt = 64,
) -> nn.Module:
    """Minimise cross-entropy on R over the last layers.

    Args:
        k: Layers or blocks that are trained with all that comes after them; at least as many as
            there are means the whole model. Official code: 1 to 3 unless said, 10 and 50 of a
            ResNet-110.
        unit: Count convolutions and linear ``layers`` from the end, or ``blocks``, a ResNet's
            being layer1 to layer4. Official code: layers.
        epochs: Passes over R. Official code.
        lr: SGD step size at the beginning of each cycle. Official code.
        last_lr: What it falls to on a cosine, pass by pass; equal to ``lr``, it stays. Official
            code.
        cycle: Passes of the first cycle. Official code.
        cycle_growth: Each cycle has this many times the passes of the one before. Official code.
        momentum: Of SGD. Official code.
        weight_decay: L2 penalty. Official code.
        max_norm: What the gradient is clipped to. Official code.
        pull: Weight of half the squared distance to the original weights; SCRUB's comparison has
            such a term. Official code: 0.
        keep_head: Whether the head is frozen too, as in SCRUB's comparison for ResNets and
            All-CNN. Official code: false.
        batch_norm: What the BatchNorm layers that are trained do with the batches' statistics.
            Official code: train.
        frozen: Mode of the frozen layers; ``eval`` keeps the running statistics of their
            BatchNorm, which hold F, and turns their dropout off. Official code: train.
        batch_size: Examples per step. Official code.
    """
    last = last_layers(model, k) if unit == "layers" else tail(model, k)
    parts = {module for part in last for module in part.modules()}
    if keep_head:
        parts -= set(heads(model))
    owners = [module for module in model.modules() if module in parts]
    moving = list(dict.fromkeys(p for m in owners for p in m.parameters(recurse=False)))
    start = [p.detach().clone() for p in moving]
    optimizer = SGD(moving, lr=lr, momentum=momentum, weight_decay=weight_decay)
    schedule = CosineAnnealingWarmRestarts(optimizer, cycle, cycle_growth, eta_min=last_lr)
    with training(model, batch_norm):
        if frozen == "eval":
            for module in model.modules():
                module.training &= module in parts
        for _ in range(epochs):
            for x, y in ctx.retain.epochs(1, batch_size):
                keep = cross_entropy(model(x), y)
                drift = torch.zeros((), device=ctx.device)
                if pull:
                    drift = torch.stack(
                        [(p - p0).square().sum() for p, p0 in zip(moving, start, strict=True)]
                    ).sum()
                loss = keep + pull / 2 * drift
                optimizer.zero_grad(set_to_none=True)
                loss.backward(inputs=moving)
                clip_grad_norm_(moving, max_norm)
                optimizer.step()
                ctx.log(retain_loss=keep, drift=drift)
            schedule.step()
            check_finite(loss, "lower cf_k.lr")
    return model
