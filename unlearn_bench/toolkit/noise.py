"""Noise on weights."""

from collections.abc import Iterable

import torch
from torch import nn


@torch.no_grad()
def add_noise(parameters: Iterable[nn.Parameter], std: float, generator: torch.Generator) -> None:
    """Add normal noise to each tensor, in place.

    Args:
        parameters: On any device.
        std: Standard deviation.
        generator: On the CPU, so that every device gets the same noise.
    """
    for parameter in parameters:
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.add_(noise.to(parameter), alpha=std)
