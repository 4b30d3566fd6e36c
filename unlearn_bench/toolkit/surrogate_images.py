"""Images that belong to no dataset, made from random numbers alone: stand-ins for missing data.

Their kind, how many are made and the run's seed say where they come from.
"""

from typing import Literal

import torch
from torch import Tensor

SurrogateKind = Literal["texture", "gaussian"]


def surrogate_images(
    kind: SurrogateKind, count: int, shape: tuple[int, int, int], generator: torch.Generator
) -> Tensor:
    """Return made-up normalised images, [count, C, H, W], on the CPU.

    Args:
        kind: ``gaussian``: every value is drawn from N(0, 1). ``texture``: noise whose amplitude
            falls with spatial frequency as 1 / f, as that of photographs does, its channels
            mixed at random; each image has mean 0 and variance 1.
        count: How many.
        shape: Of one, (C, H, W).
        generator: On the CPU.
    """
    noise = torch.randn(count, *shape, generator=generator)
    if kind == "gaussian":
        return noise
    channels, height, width = shape
    rows = torch.fft.fftfreq(height)[:, None] * height
    columns = torch.fft.rfftfreq(width) * width
    frequency = (rows.square() + columns.square()).sqrt().clamp_min(1)
    smooth = torch.fft.irfft2(torch.fft.rfft2(noise) / frequency, s=(height, width))
    mixing = torch.randn(count, channels, channels, generator=generator)
    mixed = torch.einsum("ncd,ndhw->nchw", mixing, smooth)
    flat = mixed.flatten(1)
    flat = (flat - flat.mean(1, keepdim=True)) / flat.std(1, keepdim=True).clamp_min(1e-6)
    return flat.view_as(mixed)
