"""CFW, Confuse-Finetune-Weaken: noise on the first layer, then class-weighted fine-tuning.

Adds N(0, 0.6^2) to the stem's weights, which confuses every layer above it, and minimises

    mean_i w(y_i) CE(f(x_i), y_i) over R,    w(c) = n / (classes * n_c)

for four passes on a cosine; before the last one the same weights get a little noise once more.

Third place of the NeurIPS 2023 unlearning challenge. Only the re-implementation of Cadet et al.
was read: its retain loader does not augment, while here the recipe augments as in training. It
noises direct children whose name contains "conv", which on its ResNet is the stem; we take the
stem by structure. It multiplies the mean loss by the class weights, which changes only the
step size; ours weights each example.

Source: Triantafillou et al. 2024, arXiv:2406.09073; Cadet et al. 2024, arXiv:2410.01276.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
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
    add_noise,
    check_finite,
    descend,
    matrices,
    method,
    stem,
    training,
)


@method(
    "cfw",
    access=Access.RETAIN,
    source="arXiv:2410.01276",
    family="challenge",
    year=2023,
    check=Check(quick={"epochs": 2}, probes={"targets": "matrix"}),
)
def cfw(
    model: nn.Module,
    ctx: Context,
    *,
    noise: NonNegativeFloat = 0.6,
    last_noise: NonNegativeFloat = 0.005,
    targets: Literal["stem", "conv", "matrix"] = "stem",
    class_weights: Literal["balanced", "none"] = "balanced",
    epochs: PositiveInt = 4,
    lr: PositiveFloat = 7e-4,
    momentum: Momentum = 0.9,
    weight_decay: NonNegativeFloat = 5e-4,
    batch_size: PositiveInt = 64,
) -> nn.Module:
    """Disturb the first layer, then minimise weighted cross-entropy on R.

    Args:
        noise: Standard deviation added to the weights at first. Re-implementation.
        last_noise: Standard deviation added before the last of several passes. Re-implementation.
        targets: Weights that get noise: of the ``stem``, of every ``conv``, or every ``matrix`` but
            the head; the latter destroy most networks at 0.6. Re-implementation: stem.
        class_weights: ``balanced`` weights examples against their class's frequency in R, as the
            code read means to; ``none`` weights all alike. Ours.
        epochs: Passes over R. Re-implementation.
        lr: SGD step size, on a cosine per pass. Re-implementation.
        momentum: Of SGD. Re-implementation.
        weight_decay: L2 penalty. Re-implementation.
        batch_size: Examples per step. Re-implementation.
    """
    if targets == "stem":
        noised = [p for p in stem(model).parameters() if p.dim() > 1]
    else:
        noised = list(matrices(model, targets).values())
    weights = torch.ones(ctx.num_classes)
    if class_weights == "balanced":
        weights = balanced_weights(ctx.retain.labels, ctx.num_classes)
    weights = weights.to(ctx.device)

    def loss(logits: Tensor, y: Tensor) -> Tensor:
        return (weights[y] * cross_entropy(logits, y, reduction="none")).mean()

    add_noise(noised, noise, ctx.rng)
    optimizer = SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
    schedule = CosineAnnealingLR(optimizer, T_max=epochs)
    with training(model):
        for epoch in range(epochs):
            if 0 < epoch == epochs - 1:
                add_noise(noised, last_noise, ctx.rng)
            last = descend(model, ctx.retain.epochs(1, batch_size), optimizer, ctx.log, loss)
            schedule.step()
            check_finite(last, "lower cfw.lr or cfw.noise")
    return model


def balanced_weights(labels: Tensor, num_classes: int) -> Tensor:
    """Return n / (classes present * n_c) by class, [C]; 0 where a class is absent."""
    counts = labels.bincount(minlength=num_classes).float()
    present = counts > 0
    weights = len(labels) / (present.sum() * counts.clamp_min(1))
    return torch.where(present, weights, 0.0)
