"""Time the Fisher diagonal against a plain forward and backward pass, on any model."""

import torch
from torch import Tensor, nn


def randomised(model: nn.Module) -> nn.Module:
    """Give every parameter and running statistic a value that a trained model could have.

    Fresh models start scales and last layers at zero, which would hide most of the gradient.
    """
    generator = torch.Generator().manual_seed(0)

    def noise(t: Tensor) -> Tensor:
        return torch.randn(t.shape, generator=generator, dtype=torch.float64).to(t)

    with torch.no_grad():
        for p in model.parameters():
            if p.ndim < 2 or p.eq(p.flatten()[0]).all():
                p.add_(0.2 * noise(p))
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.add_(0.2 * noise(buffer))
            elif name.endswith("running_var"):
                buffer.mul_(0.5 + noise(buffer).abs())
    return model.eval()
