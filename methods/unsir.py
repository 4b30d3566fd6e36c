"""UNSIR: impair the forgotten classes with noise that the model finds least like them, repair.

1. For every forgotten class c, learn a batch of noise N from a standard normal start by
   minimising ``-CE(f0(N), c) + 0.1 * mean ||N||`` over N, the original f0 frozen in eval mode.
2. Impair: one epoch of cross-entropy on the noise labelled c, mixed with some images of every
   retained class.
3. Repair: one epoch on the same images, with a new optimiser.

It reads no image of F, and no class but those forgotten whole.

Published are 20 copies of 256 noise images beside 1,000 images of each of nine classes, or four of
noise to seven real ones; on a few hundred images so much noise would leave nothing else to learn.
By default noise keeps that share of the images drawn. The step sizes stay what they are, made for
some hundred steps: in the 17 and 11 that the suite mnist-small has, Adam at 0.02 wrecks more than
0.01 repairs (retain accuracy 48 %); with ``repair_epochs=5`` it is 95 %. On the suite digits
``impair_lr=5e-3, repair_lr=5e-3, repair_epochs=2, noise_batch=32, copies=4, batch_size=32``
forgets all and keeps 98 %.

The paper writes the norm, its code the square; both are here. For transformers, whose weights Adam
at 0.02 destroys, use the setting of Foster et al.'s code: ``penalty=square, noise_batch=32,
noise_steps=25, copies=80, retain_per_class=500, impair_lr=1e-4, repair_lr=1e-4,
impair_batch_size=32, batch_size=128``.

Source: Tarun et al., IEEE TNNLS 2023, arXiv:2111.08947.
"""

import math
from collections.abc import Iterator
from itertools import zip_longest
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Adam

from unlearn_bench.api import (
    Access,
    BatchNormMode,
    Check,
    Context,
    MethodError,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Split,
    check_finite,
    frozen_copy,
    method,
    training,
)

# Of 20 copies of 256 noise images beside nine classes of 1,000 images.
PUBLISHED_SHARE = 20 * 256 / 9000


@method(
    "unsir",
    access=Access.RETAIN,
    source="arXiv:2111.08947",
    family="noise",
    year=2023,
    forgets=("class", "classes"),
    check=Check(
        quick={
            "noise_steps": 2,
            "noise_batch": 16,
            "copies": 2,
            "retain_per_class": 8,
            "batch_size": 32,
        },
        probes={"retain_per_class": 4, "impair_batch_size": 16},
    ),
)
def unsir(
    model: nn.Module,
    ctx: Context,
    *,
    noise_steps: NonNegativeInt = 40,
    noise_lr: PositiveFloat = 0.1,
    noise_batch: PositiveInt = 256,
    penalty: Literal["norm", "square"] = "norm",
    penalty_weight: NonNegativeFloat = 0.1,
    copies: PositiveInt | None = None,
    retain_per_class: PositiveInt = 1000,
    impair_epochs: NonNegativeInt = 1,
    impair_lr: PositiveFloat = 0.02,
    impair_batch_size: PositiveInt | None = None,
    repair_epochs: NonNegativeInt = 1,
    repair_lr: PositiveFloat = 0.01,
    batch_size: PositiveInt = 256,
    batch_norm: BatchNormMode = "train",
) -> nn.Module:
    """Learn noise for every forgotten class, impair with it, repair without.

    Args:
        noise_steps: Adam steps on the noise. Official code: 5 times 8.
        noise_lr: Adam step size on the noise. Official code.
        noise_batch: Noise images per forgotten class. Official code.
        penalty: What of each noise image is kept small: its l2 ``norm`` (paper) or the norm's
            ``square`` (official code). Paper.
        penalty_weight: Weight of that penalty. Official code.
        copies: How often the noise is repeated in the impair epoch; null takes 0.57 noise images
            per image drawn and forgotten class, which at the published size is the official
            code's 20. Ours.
        retain_per_class: Images of every retained class, drawn once. Official code.
        impair_epochs: Passes over noise and images. Official code.
        impair_lr: Adam step size. Official code.
        impair_batch_size: Examples per step of the impair epoch, noise included; by default
            ``batch_size``. Official code.
        repair_epochs: Passes over the images. Official code.
        repair_lr: Adam step size of a new optimiser. Official code.
        batch_size: Examples per step. Official code.
        batch_norm: What BatchNorm does with the batches' statistics. Official code: train.
    """
    if not ctx.forget_classes:
        raise MethodError("unsir learns noise for whole classes; it cannot forget single examples")
    some = per_class(ctx.retain, retain_per_class, ctx.rng)
    with ctx.precompute():
        original = frozen_copy(model)
        shape = next(some.batches(1))[0].shape[1:]
        start = {
            label: torch.randn(noise_batch, *shape, generator=ctx.rng).to(ctx.device)
            for label in ctx.forget_classes
        }
        noise = {
            label: learned(original, label, images, noise_steps, noise_lr, penalty, penalty_weight)
            for label, images in start.items()
        }
    rows = noise_rows(copies, noise_batch, len(some), len(noise))
    x = torch.cat(list(noise.values()))
    y = torch.tensor(list(noise), device=ctx.device).repeat_interleave(noise_batch)

    with training(model, batch_norm):
        optimizer = Adam(model.parameters(), lr=impair_lr)
        for _ in range(impair_epochs):
            mixed = noisy_batches(some, x, y, rows, impair_batch_size or batch_size, ctx.rng)
            _fit(model, ctx, optimizer, mixed, "impair")
        optimizer = Adam(model.parameters(), lr=repair_lr)
        for _ in range(repair_epochs):
            _fit(model, ctx, optimizer, some.epochs(1, batch_size), "repair")
    return model


def noise_rows(copies: int | None, noise_batch: int, images: int, classes: int) -> Tensor:
    """Return which noise images the impair epoch holds, of every class equally many, int64 [N].

    Args:
        copies: Of every noise image; None keeps the published share of the images.
        noise_batch: Noise images of each class; those of one class lie together.
        images: Real images of the pass.
        classes: Forgotten ones.
    """
    count = copies * noise_batch if copies else max(1, round(PUBLISHED_SHARE * images))
    rows = torch.arange(count) % noise_batch
    return torch.cat([rows + noise_batch * place for place in range(classes)])


def per_class(split: Split, count: int, generator: torch.Generator) -> Split:
    """Return ``count`` examples of every class, or all where there are fewer."""
    order = torch.randperm(len(split), generator=generator)
    labels = split.labels[order]
    chosen = [order[labels == label][:count] for label in labels.unique()]
    return split.at(torch.cat(chosen).sort().values)


def learned(
    original: nn.Module,
    label: int,
    start: Tensor,
    steps: int,
    lr: float,
    penalty: str,
    weight: float,
) -> Tensor:
    """Return noise on which the original's loss for a class is high.

    Args:
        original: Frozen, in eval mode.
        label: The class.
        start: Normalised inputs, [N, C, H, W].
        steps: Adam steps.
        lr: Adam step size.
        penalty: ``norm`` or ``square`` of each image.
        weight: Of the penalty's mean.
    """
    noise = start.clone().requires_grad_()
    optimizer = Adam([noise], lr=lr)
    labels = torch.full((len(noise),), label, device=noise.device)
    for _ in range(steps):
        size = noise.flatten(1).norm(dim=1)
        if penalty == "square":
            size = size.square()
        loss = -cross_entropy(original(noise), labels) + weight * size.mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return noise.detach()


def noisy_batches(
    retain: Split, x: Tensor, y: Tensor, rows: Tensor, batch_size: int, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield a pass over the images with rows of the noise spread over its batches.

    Where one image a batch is still too many, the last batches are noise alone.
    """
    # Rows of the noise, not images: the copies are never in memory together.
    rows = rows[torch.randperm(len(rows), generator=generator)]
    total = len(retain) + len(rows)
    share = max(1, round(batch_size * len(retain) / total))
    batches = max(math.ceil(len(retain) / share), math.ceil(total / batch_size))
    parts = rows.to(x.device).tensor_split(batches)
    for images, part in zip_longest(retain.epochs(1, share), parts):
        if images is None and len(part):
            yield x[part], y[part]
        elif images is not None:
            yield torch.cat([images[0], x[part]]), torch.cat([images[1], y[part]])


def _fit(
    model: nn.Module,
    ctx: Context,
    optimizer: torch.optim.Optimizer,
    batches: Iterator[tuple[Tensor, Tensor]],
    phase: str,
) -> None:
    for x, y in batches:
        loss = cross_entropy(model(x), y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        ctx.log(**{f"{phase}_loss": loss})
    check_finite(loss, f"lower unsir.{phase}_lr")
