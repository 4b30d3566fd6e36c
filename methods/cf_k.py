"""CF-k, catastrophic forgetting of the last k layers: fine-tune those on R and freeze the rest.

Minimises ``CE(retain)`` over the last k blocks, the final norm and the head. Cheaper than
fine-tuning everything; what the frozen layers know of F they keep.

Source: Goel et al. 2022, arXiv:2201.06640.
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
    Momentum,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    check_finite,
    heads,
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
    check=Check(quick={"epochs": 1, "batch_size": 64}),
)
def cf_k(
    model: nn.Module,
    ctx: Context,
    *,
    k: PositiveInt = 1,
    epochs: PositiveInt = 10,
    lr: PositiveFloat = 0.01,
    momentum: Momentum = 0.0,
    weight_decay: NonNegativeFloat = 0.0,
    pull: NonNegativeFloat = 0.0,
    keep_head: bool = False,
    batch_norm: BatchNormMode = "train",
    batch_size: PositiveInt = 128,
) -> nn.Module:
    """Minimise cross-entropy on R over the last k blocks.

    Args:
        k: Blocks that are trained with all that comes after them; at least as many as there are
            means the whole model. A ResNet's are layer1 to layer4. Common practice: 1.
        epochs: Passes over R. Official code.
        lr: SGD step size. Official code.
        momentum: Of SGD. Official code: 0.
        weight_decay: L2 penalty. Ours: 0.
        pull: Weight of half the squared distance to the original weights. Paper: 0; official
            code of SCRUB's comparison has such a term.
        keep_head: Whether the head is frozen too (official code of SCRUB's comparison, for
            ResNets and All-CNN). Paper: false.
        batch_norm: What the BatchNorm layers that are trained do with the batches' statistics;
            frozen ones use and keep their own. Common practice: train; official code of SCRUB's
            comparison: eval.
        batch_size: Examples per step. Ours.
    """
    parts = {module for part in tail(model, k) for module in part.modules()}
    if keep_head:
        parts -= set(heads(model))
    owners = [module for module in model.modules() if module in parts]
    moving = list(dict.fromkeys(p for m in owners for p in m.parameters(recurse=False)))
    start = [p.detach().clone() for p in moving]
    optimizer = SGD(moving, lr=lr, momentum=momentum, weight_decay=weight_decay)
    with training(model, batch_norm):
        for module in model.modules():
            if module not in parts:
                module.training = False
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
                optimizer.step()
                ctx.log(retain_loss=keep, drift=drift)
            check_finite(loss, "lower cf_k.lr")
    return model
