"""MSG: reinitialise the kernel weights that separate F from R the least, then fine-tune.

With g_R and g_F the mean gradients of cross-entropy at the original weights, on R (as many
examples as F has) and on F, take ``|g_R - g_F|`` and in each kernel the 30 % smallest entries:
those are drawn again as the architecture draws them at initialisation (re-implementation: from
the Kaiming normal by fan-out, grouping ignored, which for its ResNet-18 is the same). Then minimise
``CE(retain)``; kernel entries that were kept learn at a tenth of the rate, everything else at the
full rate. The rate climbs to the middle of the run and falls again: 1/3, 2/3, 1, 2/3, 1/3.

Second place of the NeurIPS 2023 unlearning challenge. Only the re-implementation of Cadet et al.
was read: its retain loader does not augment, while here the recipe augments as in training; it
takes gradients in the mode that the model happens to be in, ours in eval mode; weight decay is not
damped, there or here.

The default rate is too small for a few dozen steps: on the suite mnist-small 79 % of F stay. With
``lr=0.05, renewed=0.6`` nothing stays, and accuracy on R is 96 %.

Source: Triantafillou et al. 2024, arXiv:2406.09073; Cadet et al. 2024, arXiv:2410.01276.
"""

import torch
from torch import Tensor, nn
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR

from unlearn_bench.api import (
    Access,
    Check,
    Context,
    Fraction,
    Momentum,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Targets,
    check_finite,
    descend,
    matrices,
    method,
    summed_gradient,
    training,
)


@method(
    "msg",
    access=Access.BOTH,
    source="arXiv:2410.01276",
    family="challenge",
    year=2023,
    check=Check(quick={"epochs": 1}, probes={"damping": 0.5}),
)
def msg(
    model: nn.Module,
    ctx: Context,
    *,
    renewed: Fraction = 0.3,
    damping: Fraction = 0.1,
    targets: Targets = "conv",
    epochs: PositiveInt = 5,
    lr: PositiveFloat = 1e-3,
    momentum: Momentum = 0.9,
    weight_decay: NonNegativeFloat = 5e-4,
    batch_size: PositiveInt = 64,
) -> nn.Module:
    """Renew a share of each kernel, then minimise cross-entropy on R.

    Args:
        renewed: Share of each tensor that is reinitialised. Re-implementation.
        damping: What gradients of kept entries of those tensors are multiplied by. Official
            code.
        targets: ``conv`` kernels, of which a transformer has only its patch embedding, or every
            ``matrix`` but the head. Re-implementation: conv.
        epochs: Passes over R. Re-implementation.
        lr: Largest SGD step size. Re-implementation.
        momentum: Of SGD. Re-implementation.
        weight_decay: L2 penalty, not damped. Re-implementation.
        batch_size: Examples per step. Re-implementation.
    """
    with ctx.precompute():
        chosen = least_telling(model, ctx, targets, renewed)
    redraw(matrices(model, targets), chosen, ctx.new_model(pretrained=False))
    rates = {
        weight: torch.where(chosen[name], 1.0, damping)
        for name, weight in matrices(model, targets).items()
    }

    def damp(*_: object) -> None:
        for weight, rate in rates.items():
            if weight.grad is not None:
                weight.grad *= rate

    optimizer = SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
    optimizer.register_step_pre_hook(damp)
    schedule = LambdaLR(optimizer, lambda epoch: tent(epoch, epochs))
    with training(model):
        for _ in range(epochs):
            loss = descend(model, ctx.retain.epochs(1, batch_size), optimizer, ctx.log)
            schedule.step()
            check_finite(loss, "lower msg.lr")
    return model


def least_telling(
    model: nn.Module, ctx: Context, targets: Targets, share: float
) -> dict[str, Tensor]:
    """Return by tensor a bool mask of its entries with the smallest |g_R - g_F|."""
    retain = ctx.retain.subset(len(ctx.forget), ctx.rng)
    of_retain = summed_gradient(model, retain.batches())
    of_forget = summed_gradient(model, ctx.forget.batches())
    masks = {}
    for name, weight in matrices(model, targets).items():
        # Means: where R is the smaller set, sums would mostly show its size.
        apart = (of_retain[name] / len(retain) - of_forget[name] / len(ctx.forget)).abs()
        mask = torch.zeros(weight.numel(), dtype=torch.bool, device=weight.device)
        # Stable: which of equal entries are taken must not depend on the device.
        order = apart.flatten().argsort(stable=True)
        mask[order[: round(share * weight.numel())]] = True
        masks[name] = mask.view(weight.shape)
    return masks


@torch.no_grad()
def redraw(weights: dict[str, nn.Parameter], masks: dict[str, Tensor], fresh: nn.Module) -> None:
    """Take the masked entries of each tensor from a newly initialised model, in place."""
    for name, weight in weights.items():
        weight[masks[name]] = fresh.get_parameter(name)[masks[name]]


def tent(epoch: int, epochs: int) -> float:
    """Return the rate of an epoch counted from 0: up to 1 in the middle, and down again."""
    rising = (epochs + 1) // 2
    if epoch < rising:
        return (epoch + 1) / rising
    return (epochs - epoch) / (epochs + 1 - rising)
