"""KDE: reset the first and the last layer, then distil the original on data of neither set.

Reinitialises stem and head at random, even if the recipe begins with pre-trained weights.
Minimises first ``KL_5(f0 || f)`` on the validation split, then on R

    CE(f(x), y) + softCE_5(f0(x), f(x)) + KL_5(f0(x) || f(x)),

f0 being the original; the index is the temperature, and there is no factor T^2. The last two
differ by the teacher's entropy alone: together they are the distillation with twice the weight.

The teacher has seen F, so it can pass on what is to be forgotten. If the validation split holds
examples of a forgotten class, it does so directly. No figure of a report uses the validation
split.

Sixth place of the NeurIPS 2023 unlearning challenge. Only the re-implementation of Cadet et al. was
read: its retain loader does not augment, while here the recipe augments as in training.

On the suite mnist-small 8 % of F stay by default, with wide differences between seeds. With
``warmup_epochs=1, lr=0.003`` nothing stays, and accuracy on R is 95 %.

Source: Triantafillou et al. 2024, arXiv:2406.09073; Cadet et al. 2024, arXiv:2410.01276.
"""

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
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    check_finite,
    frozen_copy,
    heads,
    kl_divergence,
    method,
    renew,
    stem,
    training,
)


@method(
    "kde",
    access=Access.RETAIN | Access.VALIDATION,
    source="arXiv:2410.01276",
    family="challenge",
    year=2023,
    check=Check(quick={"warmup_epochs": 1, "epochs": 1}, probes={"warmup_epochs": 2}),
)
def kde(
    model: nn.Module,
    ctx: Context,
    *,
    temperature: PositiveFloat = 5.0,
    warmup_epochs: NonNegativeInt = 3,
    warmup_lr: PositiveFloat = 9e-4,
    epochs: PositiveInt = 3,
    lr: PositiveFloat = 1e-3,
    momentum: Momentum = 0.9,
    weight_decay: NonNegativeFloat = 5e-4,
    batch_size: PositiveInt = 64,
) -> nn.Module:
    """Renew stem and head, distil on the validation split, then distil and train on R.

    Args:
        temperature: Of the distillation. Re-implementation.
        warmup_epochs: Passes over the validation split. Re-implementation.
        warmup_lr: SGD step size of those. Re-implementation.
        epochs: Passes over R. Re-implementation.
        lr: SGD step size on R, on a cosine per pass. Re-implementation.
        momentum: Of SGD. Re-implementation.
        weight_decay: L2 penalty. Re-implementation.
        batch_size: Examples per step. Re-implementation.
    """
    teacher = frozen_copy(model)
    renew(model, ctx.new_model(pretrained=False), [stem(model), *heads(model)])

    def taught(x: Tensor) -> Tensor:
        with torch.no_grad():
            logits: Tensor = teacher(x)
        return logits

    with training(model):
        optimizer = SGD(model.parameters(), warmup_lr, momentum, weight_decay=weight_decay)
        for _ in range(warmup_epochs):
            for x, _y in ctx.validation.epochs(1, batch_size):
                loss = kl_divergence(taught(x), model(x), temperature)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                ctx.log(warmup_loss=loss)
            check_finite(loss, "lower kde.warmup_lr")

        optimizer = SGD(model.parameters(), lr, momentum, weight_decay=weight_decay)
        schedule = CosineAnnealingLR(optimizer, T_max=epochs)
        for _ in range(epochs):
            for x, y in ctx.retain.epochs(1, batch_size):
                logits, soft = model(x), taught(x)
                label_loss = cross_entropy(logits, y)
                soft_loss = soft_cross_entropy(soft, logits, temperature)
                kl = kl_divergence(soft, logits, temperature)
                loss = label_loss + soft_loss + kl
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                ctx.log(label_loss=label_loss, soft_loss=soft_loss, kl=kl)
            schedule.step()
            check_finite(loss, "lower kde.lr")
    return model


def soft_cross_entropy(target: Tensor, logits: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of the student's softened outputs against the teacher's; both logits."""
    return cross_entropy(logits / temperature, (target / temperature).softmax(1))
