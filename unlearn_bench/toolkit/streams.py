"""Batches of tensors that no split holds: learned noise, adversarial examples, soft targets."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

Batch = tuple[Tensor, Tensor]


def shuffled(x: Tensor, y: Tensor, batch_size: int, generator: torch.Generator) -> Iterator[Batch]:
    """Yield one shuffled pass over examples [N, ...] and their targets [N, ...]."""
    order = torch.randperm(len(x), generator=generator).to(x.device)
    yield from zip(x[order].split(batch_size), y[order].split(batch_size), strict=True)


def mixed(
    batches: Iterable[Batch], count: int, x: Tensor, y: Tensor, generator: torch.Generator
) -> Iterator[Batch]:
    """Spread additional examples evenly over one pass of batches.

    Args:
        batches: (x, y) of one pass.
        count: Examples in that pass.
        x: Additional inputs, [N, ...]; shuffled here.
        y: Their targets, [N].
        generator: Shuffles.
    """
    order = torch.randperm(len(x), generator=generator).to(x.device)
    extra_x, extra_y = x[order], y[order]
    seen = given = 0
    for main_x, main_y in batches:
        seen += len(main_x)
        upto = round(len(x) * min(1.0, seen / count))
        yield (
            torch.cat([main_x, extra_x[given:upto]]),
            torch.cat([main_y, extra_y[given:upto]]),
        )
        given = upto
