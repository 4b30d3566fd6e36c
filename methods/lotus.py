"""LoTUS: soften what the model knew of F until it is as right on F as on data it never saw.

The student starts as the original, which also is the teacher, in eval mode. Over shuffled batches
of F and a fixed 30 % of R, minimise ``-sum_c t_c log softmax(student)_c`` with

    t = softmax((z + G) / tau)       for examples of F,
    t = one-hot(argmax(z + G))       for examples of R,

z the teacher's logits and G standard Gumbel noise, drawn again in each step. The temperature
follows the gap that is left, once per pass:

    tau = exp(alpha (accuracy of the student on F - accuracy of the teacher on validation data)),

where the second accuracy is 0 if whole classes are forgotten, since validation data say nothing
about them. It stops at a gap of -0.01 or below.

A gap of 1 gives tau = exp(alpha), and targets that are all but uniform; no gap gives tau = 1, and
draws from what the teacher believes. Of a whole class these are true labels again: near 0 accuracy
the two balance, and F seldom stays at 0.

Source: Spartalis et al., CVPR 2025, arXiv:2503.18314; particulars as the official code has them.
"""

import math
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, one_hot
from torch.optim import AdamW

from unlearn_bench.api import (
    Access,
    BatchNormMode,
    Check,
    Context,
    Fraction,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Probe,
    Tunable,
    accuracy,
    check_finite,
    frozen_copy,
    method,
    training,
)


@method(
    "lotus",
    access=Access.BOTH | Access.VALIDATION,
    source="arXiv:2503.18314",
    family="distillation",
    year=2025,
    check=Check(
        quick={"epochs": 1, "batch_size": 32},
        probes={"margin": Probe(-1.0, {"epochs": 2}), "retain_fraction": 0.6},
        may_rest="F may be no more accurate than V before the first pass: it stops there",
    ),
)
def lotus(
    model: nn.Module,
    ctx: Context,
    *,
    alpha: Annotated[PositiveFloat, Tunable(1.0, 16.0, log=True)] = 8.0,
    margin: Annotated[float, Tunable(tune=False)] = 0.01,
    retain_fraction: Fraction = 0.3,
    epochs: PositiveInt = 10,
    lr: PositiveFloat = 1e-4,
    weight_decay: NonNegativeFloat = 5e-4,
    batch_size: PositiveInt = 128,
    batch_norm: BatchNormMode = "train",
) -> nn.Module:
    """Distil softened beliefs on F and drawn ones on a part of R.

    Args:
        alpha: How steeply the temperature rises with the gap: 8 on CIFAR-10, 2 on CIFAR-100.
            Official code.
        margin: Stop once the gap is at most minus this. Official code.
        retain_fraction: Share of R to train on, drawn once. Official code.
        epochs: Passes at most; 3 for a ViT. Official code.
        lr: AdamW step size; 1e-6 for a ViT. Official code.
        weight_decay: Of AdamW. Official code.
        batch_size: Examples per step; 32 for a ViT. Official code.
        batch_norm: What BatchNorm does with the batches' statistics. Official code: train.
    """
    teacher = frozen_copy(model)
    with ctx.precompute():
        aim = 0.0 if ctx.forget_classes else accuracy(teacher, ctx.validation.batches())
    kept = ctx.retain.subset(round(retain_fraction * len(ctx.retain)), ctx.rng)
    both = ctx.forget + kept
    optimizer = AdamW(model.parameters(), lr=lr, weight_decay=weight_decay)
    for _ in range(epochs):
        gap = accuracy(model, ctx.forget.batches()) - aim
        if gap <= -margin:
            break
        temperature = math.exp(alpha * gap)
        with training(model, batch_norm):
            for x, _, places in both.traced(1, batch_size):
                with torch.no_grad():
                    believed = teacher(x)
                noise = gumbel(believed.shape, ctx.rng).to(believed)
                targets = drawn(believed + noise, places < len(ctx.forget), temperature)
                loss = -(targets * log_softmax(model(x), 1)).sum(1).mean()
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                ctx.log(loss=loss, gap=gap, temperature=temperature)
        check_finite(loss, "lower lotus.lr")
    return model


def drawn(noisy: Tensor, forgotten: Tensor, temperature: float) -> Tensor:
    """Return targets [N, C]: softened for forgotten examples, one class for the others.

    Args:
        noisy: The teacher's logits with Gumbel noise, [N, C].
        forgotten: Which examples are of F, bool [N].
        temperature: tau.
    """
    soft = (noisy / temperature).softmax(1)
    hard = one_hot(noisy.argmax(1), noisy.shape[1]).to(soft)
    return torch.where(forgotten.to(noisy.device)[:, None], soft, hard)


def gumbel(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Return standard Gumbel noise on the CPU."""
    return -torch.empty(shape).exponential_(generator=generator).log()
