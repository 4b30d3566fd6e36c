"""SFR-on: steps up the forget loss on few weights, in between steps down the retain loss.

A mask, read once at the original weights, holds what matters more to F than to R:

    m_j = [ (I_F,j + 1e-15) / (I_R,j + 1e-15) >= gamma ],    I the diagonal of the Fisher matrix.

Each of T steps descends ``CE(retain)``; before every k-th one a step ascends

    alpha_t * mean_i w_i CE_i(forget),    w_i = b CE_i^-lambda / sum_i' CE_i'^-lambda,

with w held fixed: examples that still have a low loss are pushed most. Losses count as at least
1e-6 there (ours): one that is 0 in float32 would take all the weight, and has no gradient to push
by (official code: 1e-15 is added). That gradient is masked and clipped. alpha_t and the learning
rate fall to 0 on a cosine.

Importances are those of single examples; the official code squares gradients of whole batches, and
in its forget step momentum and weight decay move the masked weights too; here they stay. Its
slow interpolation of weights has weight 1, which does nothing, and is left out. Its settings are
for random examples; for classes they are unverified.

Source: Huang et al., NeurIPS 2024, arXiv:2409.19732; particulars as the official code has them; the
paper itself was not read.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR

from unlearn_bench.api import (
    Access,
    Check,
    Context,
    Momentum,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    by_parameter,
    check_finite,
    method,
    training,
)
from unlearn_bench.fisher import fisher_diagonal

Importance = Literal["fisher", "batch"]
LEAST_LOSS = 1e-6


@method(
    "sfron",
    access=Access.BOTH,
    source="arXiv:2409.19732",
    family="masking",
    year=2024,
    check=Check(
        quick={"steps": 6, "forget_every": 2},
        probes={"alpha": 0.01, "max_norm": 0.01, "momentum": 0.5, "optimizer": "adamw"},
    ),
)
def sfron(
    model: nn.Module,
    ctx: Context,
    *,
    steps: PositiveInt = 1500,
    forget_every: PositiveInt = 5,
    alpha: NonNegativeFloat = 25.0,
    power: NonNegativeFloat = 0.5,
    gamma: NonNegativeFloat = 1.0,
    importance: Importance = "fisher",
    hold_masked: bool = True,
    max_norm: PositiveFloat = 7.0,
    optimizer: Literal["sgd", "adamw"] = "sgd",
    lr: PositiveFloat = 0.01,
    momentum: Momentum = 0.9,
    weight_decay: NonNegativeFloat = 5e-4,
    batch_size: PositiveInt = 128,
) -> nn.Module:
    """Alternate masked ascent on F with descent on R.

    Args:
        steps: T, steps on R. Official code: 1500 on CIFAR-10, 500 on Tiny-ImageNet.
        forget_every: k. Official code: 5 on CIFAR-10, 1 on Tiny-ImageNet.
        alpha: Weight of the ascent at the beginning. Official code: 25 on CIFAR-10, 500 on
            Tiny-ImageNet.
        power: lambda, how much more low losses weigh; 0 weighs all alike. Official code: 0.5 on
            CIFAR-10, 0.6 on Tiny-ImageNet.
        gamma: Least ratio of importances that lets a weight take part in the ascent. Official
            code.
        importance: Squared gradients of each example, ``fisher``, which is exact, or of each
            ``batch``, as in the official code. Ours.
        hold_masked: Whether masked weights stay in forget steps whatever momentum and weight
            decay say. Ours: true, as a mask is meant; official code: false.
        max_norm: What the ascent's gradient is clipped to. Official code.
        optimizer: ``sgd`` as on CIFAR-10, ``adamw`` as on Tiny-ImageNet. Official code.
        lr: Step size. Official code: 0.01 (sgd), 2e-5 (adamw).
        momentum: Of SGD; adamw does not read it. Official code.
        weight_decay: L2 penalty. Official code: 5e-4 (sgd), 0.05 (adamw).
        batch_size: Examples of F and of R per step. Official code.
    """
    with ctx.precompute():
        mask = by_parameter(model, saliency(model, ctx, gamma, importance, batch_size))
    step_rule: torch.optim.Optimizer
    if optimizer == "sgd":
        step_rule = SGD(model.parameters(), lr, momentum, weight_decay=weight_decay)
    else:
        step_rule = AdamW(model.parameters(), lr, weight_decay=weight_decay)
    schedule = CosineAnnealingLR(step_rule, T_max=steps)
    retain, forget = ctx.retain.forever(batch_size), ctx.forget.forever(batch_size)
    per_pass = math.ceil(len(ctx.retain) / batch_size)
    with training(model):
        for step in range(steps):
            if step % forget_every == 0:
                x, y = next(forget)
                weight = alpha * (1 + math.cos(math.pi * step / steps)) / 2
                losses = cross_entropy(model(x), y, reduction="none")
                forget_loss = (balance(losses.detach(), power) * losses).mean()
                step_rule.zero_grad(set_to_none=True)
                (-weight * forget_loss).backward()
                for parameter, chosen in mask.items():
                    if parameter.grad is not None:
                        parameter.grad *= chosen
                clip_grad_norm_(model.parameters(), max_norm)
                if hold_masked:
                    masked_step(step_rule, mask)
                else:
                    step_rule.step()
                ctx.log(forget_loss=forget_loss)
            x, y = next(retain)
            retain_loss = cross_entropy(model(x), y)
            step_rule.zero_grad(set_to_none=True)
            retain_loss.backward()
            step_rule.step()
            schedule.step()
            ctx.log(retain_loss=retain_loss)
            if step % per_pass == per_pass - 1 or step == steps - 1:
                check_finite(retain_loss, "lower sfron.alpha or sfron.lr")
    return model


def saliency(
    model: nn.Module, ctx: Context, gamma: float, importance: Importance, batch_size: int
) -> dict[str, Tensor]:
    """Return the mask by parameter name, bool."""
    kind: Literal["empirical", "batch"] = "empirical" if importance == "fisher" else "batch"
    of_forget = fisher_diagonal(model, ctx.forget.batches(batch_size), kind)
    of_retain = fisher_diagonal(model, ctx.retain.batches(batch_size), kind)
    return {
        name: (of_forget[name] + 1e-15) / (of_retain[name] + 1e-15) >= gamma for name in of_forget
    }


def balance(losses: Tensor, power: float) -> Tensor:
    """Return weights that favour low losses and sum to their number, [N]."""
    weights = losses.clamp_min(LEAST_LOSS) ** -power
    return len(losses) * weights / weights.sum()


@torch.no_grad()
def masked_step(optimizer: torch.optim.Optimizer, mask: dict[nn.Parameter, Tensor]) -> None:
    """Step, then put back the weights outside the mask and what the optimiser knows of them."""

    def held() -> list[tuple[Tensor, Tensor]]:
        return [
            (tensor, chosen)
            for parameter, chosen in mask.items()
            for tensor in (parameter, *optimizer.state.get(parameter, {}).values())
            if isinstance(tensor, Tensor) and tensor.shape == parameter.shape
        ]

    before = {id(tensor): tensor.clone() for tensor, _ in held()}
    optimizer.step()
    for tensor, chosen in held():
        # State that this step created starts from 0.
        old = before.get(id(tensor), torch.zeros_like(tensor))
        tensor.copy_(torch.where(chosen, tensor, old))
