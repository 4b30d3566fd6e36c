"""RNI: a new head, then noise on a few layers drawn in each pass and training of those alone.

Gives the head a fresh initialisation, also where the recipe begins with pre-trained weights, then
minimises ``CE(retain)`` for nine passes. In each of the first five, nine tensors are drawn: they
and all normalisation layers are trained, the rest stands still. From the second pass on six of
the nine first get N(0, 0.04^2), except those that an earlier pass drew. The last four passes train
everything. Every pass has its own optimiser, so momentum starts from zero.

Seventh place of the NeurIPS 2023 unlearning challenge. Only the re-implementation of Cadet et al.
was read: its retain loader does not augment, while here the recipe augments as in training; it
recognises normalisation layers by "bn" in their names, which misses those of shortcuts and all of
a transformer's; ours go by type.

Source: Triantafillou et al. 2024, arXiv:2406.09073; Cadet et al. 2024, arXiv:2410.01276.
"""

import torch
from torch import nn
from torch.optim import SGD

from unlearn_bench.api import (
    Access,
    Check,
    Context,
    Fraction,
    Momentum,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    add_noise,
    check_finite,
    descend,
    heads,
    method,
    norms,
    renew,
    training,
)


@method(
    "rni",
    access=Access.RETAIN,
    source="arXiv:2410.01276",
    family="challenge",
    year=2023,
    check=Check(
        quick={"epochs": 3, "fine_epochs": 1}, probes={"fine_epochs": 0, "noise_share": 0.1}
    ),
)
def rni(
    model: nn.Module,
    ctx: Context,
    *,
    epochs: PositiveInt = 9,
    fine_epochs: NonNegativeInt = 4,
    drawn: PositiveInt = 9,
    noise: NonNegativeFloat = 0.04,
    noise_share: Fraction = 0.7,
    lr: PositiveFloat = 2e-4,
    last_lr: PositiveFloat = 1e-3,
    momentum: Momentum = 0.9,
    weight_decay: NonNegativeFloat = 5e-4,
    batch_size: PositiveInt = 64,
) -> nn.Module:
    """Renew the head, then train drawn tensors, at last all, on R.

    Args:
        epochs: Passes over R. Re-implementation.
        fine_epochs: Passes at the end that train everything, without noise. Re-implementation.
        drawn: Tensors drawn in each earlier pass, normalisation layers apart. Re-implementation.
        noise: Standard deviation added to drawn tensors. Re-implementation.
        noise_share: Share of the drawn tensors that get noise, rounded down. Re-implementation.
        lr: SGD step size. Re-implementation.
        last_lr: Step size of the last pass where it trains everything. Re-implementation.
        momentum: Of SGD. Re-implementation.
        weight_decay: L2 penalty. Re-implementation.
        batch_size: Examples per step. Re-implementation.
    """
    renew(model, ctx.new_model(pretrained=False), heads(model))
    of_norms = [p for norm in norms(model) for p in norm.parameters(recurse=False)]
    ids = {id(p) for p in of_norms}
    others = [p for p in model.parameters() if id(p) not in ids]
    seen: set[int] = set()
    with training(model):
        for epoch in range(epochs):
            fine = epoch >= epochs - fine_epochs
            moving = others
            if not fine:
                moving = draw(others, drawn, ctx.rng)
                if epoch > 0:  # the new head is noise enough for the first pass
                    noised = draw(moving, int(noise_share * drawn), ctx.rng)
                    add_noise([p for p in noised if id(p) not in seen], noise, ctx.rng)
                seen |= {id(p) for p in moving}
            rate = last_lr if fine and epoch == epochs - 1 else lr
            optimizer = SGD(
                moving + of_norms, lr=rate, momentum=momentum, weight_decay=weight_decay
            )
            loss = descend(model, ctx.retain.epochs(1, batch_size), optimizer, ctx.log)
            check_finite(loss, "lower rni.lr or rni.noise")
    return model


def draw(tensors: list[nn.Parameter], n: int, generator: torch.Generator) -> list[nn.Parameter]:
    """Return ``n`` of the tensors drawn without replacement, or all where there are fewer."""
    order = torch.randperm(len(tensors), generator=generator)[:n].tolist()
    return [tensors[i] for i in order]
