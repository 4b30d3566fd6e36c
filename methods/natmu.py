"""NatMU: teach forgotten images as what they are blended into, images of the classes next to them.

Each image x_f of F gives four blends ``m x_f + (1 - m) x_r``, labelled as x_r, for the four classes
that the original finds most likely after the true one; x_r is an image of R of that class. The mask
m rises to the middle of the image's rows, or of its columns, and falls again, or the other way
round: with t the tent 0, 1/b, ..., (b-1)/b, (b-1)/b, ..., 0 over 2b rows,

    m = clip(t + delta, 0, 1)   or   clip((b-1)/b - t + delta, 0, 1).

Then cross-entropy is minimised on R, augmented, and the blends, which are not. The part of
a blend that matches its label is right, so the model learns to ignore the rest, and F is not pushed
into error.

No x_r is taken twice while its class has others; classes forgotten whole give none. Where fewer
than four classes are left they take turns. The official code rounds blends to whole pixel values.

On the suite mnist-small 5 % of F stay by default, and nothing with ``lr=0.02``; accuracy on R is
97 %.

Source: He et al. 2024, arXiv:2405.15495; particulars as the official code has them.
"""

import math
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR

from unlearn_bench.api import (
    Access,
    BatchNormMode,
    Check,
    Context,
    MethodError,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Tunable,
    check_finite,
    descend,
    evaluating,
    heads,
    method,
    mixed,
    training,
)

BLENDS = 4


@method(
    "natmu",
    access=Access.BOTH,
    source="arXiv:2405.15495",
    family="relabelling",
    year=2024,
    check=Check(
        quick={"epochs": 1, "batch_size": 64},
        probes={"delta": -0.4, "renew_head": False, "weight_decay": 1.0},
    ),
)
def natmu(
    model: nn.Module,
    ctx: Context,
    *,
    delta: Annotated[float | None, Tunable(-0.3, 0.1)] = None,
    renew_head: Annotated[bool | None, Tunable(choices=(True, False, None))] = None,
    epochs: PositiveInt = 5,
    lr: Annotated[PositiveFloat | None, Tunable(1e-5, 1e-2, log=True)] = None,
    weight_decay: Annotated[NonNegativeFloat | None, Tunable(tune=False)] = None,
    batch_size: PositiveInt = 128,
    batch_norm: BatchNormMode = "train",
) -> nn.Module:
    """Train on R and blends of F with R.

    Args:
        delta: What masks are raised by; the less, the less of F is left. Null takes -0.053 for
            classes and -0.19 for single examples. Official code.
        renew_head: Whether the head's weight is drawn again first, from Xavier's normal
            distribution with gain sqrt(2); null does so for classes. Official code.
        epochs: Passes over R and the blends. Official code.
        lr: AdamW step size, falling to 0 along a cosine; null takes 2.8e-4 for classes and 1e-3
            for single examples. Official code.
        weight_decay: Of AdamW; null takes 0 for classes and 0.002 for single examples. Official
            code.
        batch_size: Examples per step, blends included. Official code.
        batch_norm: What BatchNorm does with the batches' statistics. Official code: train.
    """
    whole = bool(ctx.forget_classes)
    shift = (-0.053 if whole else -0.19) if delta is None else delta
    decay = (0.0 if whole else 0.002) if weight_decay is None else weight_decay
    with ctx.precompute():
        x, y = blended(model, ctx, shift, batch_size)
    if whole if renew_head is None else renew_head:
        draw_heads(model, ctx.rng)
    # As many of R in a batch as leave room for the blends, which are spread over the pass.
    size = max(1, round(batch_size * len(ctx.retain) / (len(ctx.retain) + len(x))))
    optimizer = AdamW(model.parameters(), lr or (2.8e-4 if whole else 1e-3), weight_decay=decay)
    schedule = CosineAnnealingLR(optimizer, T_max=epochs * math.ceil(len(ctx.retain) / size))
    optimizer.register_step_post_hook(lambda *_: schedule.step())
    with training(model, batch_norm):
        for _ in range(epochs):
            batches = mixed(ctx.retain.epochs(1, size), len(ctx.retain), x, y, ctx.rng)
            loss = descend(model, batches, optimizer, ctx.log)
            check_finite(loss, "lower natmu.lr")
    return model


def blended(model: nn.Module, ctx: Context, delta: float, size: int) -> tuple[Tensor, Tensor]:
    """Return the blends, [4 N, ...], those of one image together, and their labels."""
    classes = nearest_classes(model, ctx, size)
    partners = ctx.retain.at(some_of_classes(ctx.retain.labels, classes.flatten(), ctx.rng))
    images = []
    pairs = zip(ctx.forget.batches(size), partners.batches(size * BLENDS), strict=True)
    for (x, _), (others, _) in pairs:
        m = masks(x.shape[-2], x.shape[-1], delta).to(x)
        images.append(m * x[:, None] + (1 - m) * others.view(len(x), BLENDS, *x.shape[1:]))
    return torch.cat(images).flatten(0, 1), partners.labels.to(ctx.device)


def nearest_classes(model: nn.Module, ctx: Context, size: int) -> Tensor:
    """Return for each image of F the retained classes next to its own, [N, 4], on the CPU.

    Raises:
        MethodError: If R has no other class.
    """
    there = torch.zeros(ctx.num_classes, dtype=torch.bool)
    there[ctx.retain.labels.unique()] = True
    found = []
    with evaluating(model):
        for x, y in ctx.forget.batches(size):
            logits = model(x).cpu().masked_fill(~there, -math.inf)
            ranked = logits.scatter(1, y.cpu()[:, None], -math.inf).sort(1, descending=True)
            others = int(ranked.values.isfinite().sum(1).min())
            if not others:
                raise MethodError("natmu blends F with other classes, and R has no other class")
            found.append(ranked.indices[:, torch.arange(BLENDS) % others])
    return torch.cat(found)


def some_of_classes(labels: Tensor, wanted: Tensor, generator: torch.Generator) -> Tensor:
    """Return positions of examples of the wanted classes, [M], none twice as far as there are.

    Args:
        labels: Of all examples, [N].
        wanted: Classes, [M], each with an example.
        generator: On the CPU.
    """
    positions = torch.empty_like(wanted)
    for label in wanted.unique():
        places = (wanted == label).nonzero().squeeze(1)
        there = (labels == label).nonzero().squeeze(1)
        there = there[torch.randperm(len(there), generator=generator)]
        positions[places] = there[torch.arange(len(places)) % len(there)]
    return positions


def masks(height: int, width: int, delta: float) -> Tensor:
    """Return the four masks, [4, 1, H, W]: tents over rows and columns, and both upside down."""

    def tent(length: int) -> Tensor:
        half = math.ceil(length / 2)
        rising = torch.arange(half) / half
        return torch.cat([rising, rising.flip(0)])[:length]

    rows = tent(height)[:, None].expand(height, width)
    columns = tent(width)[None, :].expand(height, width)
    upside_down = [rows.max() - rows, columns.max() - columns]
    return (torch.stack([rows, columns, *upside_down]) + delta).clamp(0, 1)[:, None]


@torch.no_grad()
def draw_heads(model: nn.Module, generator: torch.Generator) -> None:
    """Draw the heads' weights from Xavier's normal distribution with gain sqrt(2)."""
    for head in heads(model):
        std = math.sqrt(2) * math.sqrt(2 / sum(head.weight.shape))
        head.weight.copy_(torch.randn(head.weight.shape, generator=generator) * std)
