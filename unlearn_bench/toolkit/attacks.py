"""Adversarial examples: radii are in pixels of [0, 1], whatever the normalisation.

The attacked model is in eval mode; only inputs get gradients, and the model's own stay as they
were.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy


@dataclass(frozen=True)
class Pixels:
    """The way between normalised inputs and pixels in [0, 1].

    Attributes:
        mean: Per channel, [C, 1, 1].
        std: Likewise.
    """

    mean: Tensor
    std: Tensor

    def of(self, x: Tensor) -> Tensor:
        """Return the pixels in [0, 1] of normalised inputs [N, C, H, W]."""
        return x * self.std + self.mean

    def normalised(self, pixels: Tensor) -> Tensor:
        """Return the normalised inputs of pixels in [0, 1]."""
        return (pixels - self.mean) / self.std


def input_gradient(model: nn.Module, pixels: Tensor, labels: Tensor, space: Pixels) -> Tensor:
    """Return the gradient of each example's cross-entropy by its pixels, [N, C, H, W]."""
    asked = pixels.detach().requires_grad_()
    with torch.enable_grad():
        loss = cross_entropy(model(space.normalised(asked)), labels, reduction="sum")
    return torch.autograd.grad(loss, asked)[0]


def fgsm(model: nn.Module, x: Tensor, labels: Tensor, space: Pixels, radius: float) -> Tensor:
    """One step of size ``radius`` up the loss along the gradient's sign, rounded to 8 bits.

    Args:
        model: In eval mode.
        x: Normalised inputs, [N, C, H, W].
        labels: Classes whose loss rises, [N].
        space: The normalisation.
        radius: Largest change of a pixel, in [0, 1].

    Returns:
        Normalised inputs.

    Source: Goodfellow et al. 2014, arXiv:1412.6572.
    """
    pixels = space.of(x)
    moved = pixels + radius * input_gradient(model, pixels, labels, space).sign()
    return space.normalised((moved.clamp(0, 1) * 255).round() / 255)


def project_l2(change: Tensor, radius: Tensor | float) -> Tensor:
    """Shorten each example's change to at most ``radius`` in l2 norm; [N, ...]."""
    norms = change.flatten(1).norm(dim=1).clamp_min(1e-12)
    factor = (torch.as_tensor(radius, device=change.device) / norms).clamp(max=1)
    shortened: Tensor = change * factor.view(-1, *[1] * (change.dim() - 1))
    return shortened


def l2_pgd(
    model: nn.Module,
    x: Tensor,
    labels: Tensor,
    space: Pixels,
    *,
    radius: Tensor | float,
    step: Tensor | float,
    iterations: int,
    targeted: bool = False,
    start: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Projected gradient steps within an l2 ball, pixels kept in [0, 1].

    Args:
        model: In eval mode.
        x: Normalised inputs, [N, C, H, W].
        labels: Classes to move away from, or with ``targeted`` towards, [N].
        space: The normalisation.
        radius: Of the ball, in pixels of [0, 1]; one number or one per example, [N].
        step: Length of each step along the normalised gradient; likewise.
        iterations: Steps.
        targeted: Whether the loss falls instead of rising.
        start: Normalised inputs within the ball to go on from; by default x.
        generator: Draws a random start instead: x and normal noise, shortened to the ball. On
            images it is longer than any usual radius, so that the start lies on the ball's
            surface.

    Returns:
        Normalised inputs.

    Source: Madry et al. 2017, arXiv:1706.06083.
    """
    clean = space.of(x)
    moved = clean if start is None else space.of(start)
    if generator is not None:
        noise = torch.randn(x.shape, generator=generator).to(x.device)
        moved = (clean + project_l2(noise, radius)).clamp(0, 1)
    shape = (-1, *[1] * (x.dim() - 1))
    length = torch.as_tensor(step, device=x.device, dtype=x.dtype).expand(len(x)).view(shape)
    for _ in range(iterations):
        gradient = input_gradient(model, moved, labels, space)
        norms = gradient.flatten(1).norm(dim=1).clamp_min(1e-12).view(shape)
        direction = -gradient / norms if targeted else gradient / norms
        change = project_l2(moved + length * direction - clean, radius)
        moved = (clean + change).clamp(0, 1)
    return space.normalised(moved)
